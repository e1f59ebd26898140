def fail():
    raise OSError(2, "no", "file")
