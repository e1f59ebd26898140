def attempt():
    try:
        open('/etc/passwd')
    except PermissionError:
        return 1
n = 0
for _ in range(100000):
    n += attempt()
print(n)
