import atexit, os, sys
print('before')
sys.stdout.flush()
atexit.register(print, 'at exit of')
pid = os.fork()
if pid == 0:
    print('child')
    sys.exit(5)
print('parent', os.waitpid(pid, 0)[1] >> 8)
pid = os.fork()
if pid == 0:
    raise LookupError('in the child')
os.waitpid(pid, 0)
pid = os.fork()
if pid == 0:
    os._exit(3)
print(os.waitpid(pid, 0)[1] >> 8)
