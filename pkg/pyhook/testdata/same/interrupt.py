print(1)
raise KeyboardInterrupt("x")
