import sys, threading
def deep(n):
    return deep(n + 1)
def interrupted():
    raise KeyboardInterrupt
def chained():
    try:
        {}[1]
    except KeyError as e:
        raise RuntimeError('chained') from e
for target in (interrupted, chained, sys.exit):
    t = threading.Thread(target=target, name='T')
    t.start()
    t.join()
threading.excepthook = lambda args: print('own hook', args.exc_type.__name__, args.thread.name)
t = threading.Thread(target=deep, args=(0,), name='T')
t.start()
t.join()
d = threading.Thread(target=threading.Event().wait, daemon=True)
d.start()
