import atexit, sys
atexit.register(lambda: 1 / 0)
atexit.register(lambda: sys.exit(9))
atexit.register(print, 'still runs')
print('main')
