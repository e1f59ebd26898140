print("out", end="")
raise SystemExit
