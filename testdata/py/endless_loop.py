"""Never ends by itself."""
print("counting", flush=True)
n = 0
while True:
    n += 1
