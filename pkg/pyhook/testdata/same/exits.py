import atexit, threading, time, sys
ready = threading.Event()
atexit.register(print, 'atexit first registered')
atexit.register(lambda: print('atexit last registered'))
def late():
    threading.main_thread().join(10)
    print('thread done')
threading.Thread(target=late).start()
sys.stdout.write('no newline')
sys.exit(7)
