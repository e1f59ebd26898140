import threading

class Odd(Exception):
    def __str__(self):
        print('must not be called twice')
        return 'odd'

class Bad:
    def __del__(self):
        raise LookupError('in __del__')

def fail(x):
    raise Odd(x, object())

threading.excepthook = threading.excepthook
t = threading.Thread(target=int, args=('x',))
t.start()
t.join()
Bad()

fail(1)
