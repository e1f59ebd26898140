import threading, _thread, sys
def boom():
    raise ValueError('in thread')
t = threading.Thread(target=boom, name='T'); t.start(); t.join()
t = threading.Thread(target=sys.exit, args=(3,), name='T'); t.start(); t.join()
print('main goes on')
