x = 1
if x:
    print("crlf", """a
b""".encode())
1 / 0
