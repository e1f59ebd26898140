print("no newline at the end")
def f():
    1 / 0
f()