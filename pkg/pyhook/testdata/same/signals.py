import os, signal, sys
print([s.name for s in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM) if signal.getsignal(s) is signal.default_int_handler or
       signal.getsignal(s) is signal.SIG_IGN])
signal.signal(signal.SIGTERM, lambda *a: sys.exit(6))
print('before')
os.kill(os.getpid(), signal.SIGTERM)
print('never')
