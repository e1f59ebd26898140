"""Ways around the hook that stay inside Python. Whatever they reach, a file must stay closed."""
import builtins, sys, posix, json, threading

def closed(how):
    for path in ('/etc/passwd', b'/etc/passwd'):
        try:
            open(path).close()
        except PermissionError:
            continue
        print('OPENED after', how)
        return
    print('closed after', how)

def frames(e):
    todo, seen = [], set()
    t = e.__traceback__
    while t:
        todo.append(t.tb_frame)
        t = t.tb_next
    while todo:
        f = todo.pop()
        if f is not None and id(f) not in seen:
            seen.add(id(f))
            todo.append(f.f_back)
            yield f

def overwrite(e):
    mine = globals()
    for f in frames(e):
        if f.f_globals is mine:
            continue
        for space in (f.f_locals, f.f_globals):
            for k, v in list(space.items()):
                if k.startswith('__'):
                    continue
                try:
                    if isinstance(v, bool):
                        space[k] = not v
                    elif isinstance(v, (dict, list, set)):
                        v.clear()
                    elif callable(v):
                        space[k] = lambda *a, **k: None
                except Exception:
                    pass

try:
    open('/etc/passwd')
except PermissionError as e:
    overwrite(e)
    closed('writing through f_locals')

class Path(str):
    def __getitem__(self, i): return '/dev/null'
    def __str__(self): return '/dev/null'
    def __eq__(self, o): return True
    def __hash__(self): return hash('/dev/null')
    def startswith(self, *a): return True
    def __fspath__(self): return Path('/etc/passwd')
class Like:
    def __fspath__(self): return Path('/etc/passwd')
for p in (Path('/etc/passwd'), Like()):
    try:
        open(p).close()
        print('OPENED as', type(p).__name__)
    except PermissionError:
        print('closed as', type(p).__name__)

keep = {k: getattr(builtins, k) for k in ('type', 'len', 'isinstance', 'str', 'tuple', 'PermissionError', 'OSError', 'print', 'open')}
for k in keep:
    if k not in ('print', 'open'):
        setattr(builtins, k, lambda *a, **k: None)
try:
    try:
        keep['open']('/etc/passwd')
        keep['print']('OPENED after shadowing builtins')
    except keep['PermissionError']:
        keep['print']('closed after shadowing builtins')
finally:
    for k, v in keep.items():
        setattr(builtins, k, v)

posix.write_, posix.write = posix.write, lambda *a: None
closed('shadowing posix.write')
posix.write = posix.write_

try:
    exec(compile("open('/etc/passwd')", json.__file__, 'exec'))
    print('OPENED with a forged file name')
except PermissionError:
    print('closed with a forged file name')

def tracer(f, event, arg):
    for k in list(f.f_locals):
        if k in ('ok', 'read', 'writing', 'bad'):
            f.f_locals[k] = True
    return tracer
sys.settrace(tracer)
sys.setprofile(tracer)
closed('tracing')
sys.settrace(None)
sys.setprofile(None)

t = threading.Thread(target=closed, args=('starting a thread',))
t.start(); t.join()

loop = []
loop.append(loop)
for event in ('open', 'import', 'os.remove', 'os.rename', 'socket.connect', 'socket.__new__', 'subprocess.Popen', 'os.exec', 'compile',
              'ctypes.dlopen', 'ctypes.dlsym', 'sys.unraisablehook', 'os.fork', 'nothing', ''):
    for args in ((), (None,), (loop, loop), (None, None, None), (10 ** 400, {}, object(), loop), ('/etc/passwd', 'r', 0)):
        try:
            sys.audit(event, *args)
        except PermissionError:
            pass
closed('forged events')

for name in ('_xxsubinterpreters', '_interpreters'):
    try:
        __import__(name).create()
        print('OPENED a sub-interpreter')
    except ImportError:
        pass

null = posix.open("/dev/null", posix.O_WRONLY)
posix.dup2(null, 1000)
closed('closing the pipe')
