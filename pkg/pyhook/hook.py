"""The hook: what is watched. What it does is evidence and early, readable
refusals; the wall is the kernel's.

Rules that everything below keeps:

* What runs after the script has started finds all that it needs in its own
  default arguments: no globals, no builtins, no closures. The script can replace
  builtins, and since PEP 667 (3.13) the f_locals of a frame write through to
  closure cells, but not to the defaults of the next call.
* A handler returns its refusal and audit() raises it, with its other locals
  cleared: the traceback leads to no object through which the policy is reached.
* No method of an object of the script is called. Types are compared with `is`,
  methods taken from the built-in types themselves.
* Paths decide what is allowed; frames only decide whose line is reported.
"""
import marshal
import time
from _thread import get_native_id

MACHINERY = ('<frozen importlib._bootstrap>', '<frozen importlib._bootstrap_external>')
ALLOWED, DENIED, OBSERVED = 0, 1, 2
EPERM, EACCES = 1, 13


def directories(paths):
    """Prefixes for str.startswith(path + '/', ...)."""
    return tuple([path.rstrip('/') + '/' for path in paths if path])


def make_text():
    """exact: the str behind a path or name, or None. text: something printable."""
    def exact(x, type=type, str=str, bytes=bytes, issubclass=issubclass, plain=str.__str__, decode=bytes.decode):
        kind = type(x)
        if kind is str:
            return x
        if kind is bytes:
            return decode(x, 'utf-8', 'surrogateescape')
        if issubclass(kind, str):
            return plain(x)
        return None

    def word(x, limit=1000, type=type, str=str, bytes=bytes, int=int, bits=int.bit_length, digits=int.__repr__,
             exact=exact, len=len, name=type.__dict__['__name__'].__get__):
        kind = type(x)
        if x is None or x is True or x is False:
            return 'None' if x is None else 'True' if x is True else 'False'
        if kind is int:
            return digits(x) if bits(x) < 200 else '<int>'
        if kind is bytes:
            x = x[:limit + 1]
        s = exact(x)
        if s is None:
            s = '<' + name(kind) + '>'
        return s if len(s) <= limit else s[:limit] + '...'

    def text(x, limit=1000, type=type, tuple=tuple, list=list, word=word, join=str.join, len=len):
        if type(x) is not tuple and type(x) is not list:
            return word(x, limit)
        s = join(' ', [word(y, 200) for y in x[:32]])
        return s if len(s) <= limit else s[:limit] + '...'

    return exact, text


def make_emit(fd, cap, text):
    """send: one record, one write. emit: an event, numbered and flood-capped."""
    counters, forked = {}, []
    # A forked child may close the pipe with everything else and open a file of its own under that number.
    try:
        pipe = posix.fstat(fd)[1:3]
    except OSError:
        pipe = None

    def send(record, fd=fd, write=posix.write, dumps=marshal.dumps, len=len, type=type, str=str, tuple=tuple,
             size=int.to_bytes, Error=OSError, magic=b'\xf5SBX', forked=forked, status=posix.fstat, pipe=pipe):
        data = dumps(record, 2)
        if len(data) > 4090:  # PIPE_BUF less the header
            data = dumps(tuple([x[:120] if type(x) is str else x for x in record]), 2)
        try:
            if forked and status(fd)[1:3] != pipe:
                return
            write(fd, magic + size(len(data), 2, 'little') + data)
        except Error:
            pass  # the reader is gone, or the script closed or replaced the descriptor

    def number(op, code, get=counters.get, add=counters.setdefault, iter=iter,
               numbers=range(1, 1 << 62), cap=cap):
        step = get((op, code))
        if step is None:
            step = add((op, code), iter(numbers).__next__)  # __next__ is one step for all threads
        n = step()
        return 0 if n > cap and n & (n - 1) else n

    def emit(op, code, target, detail, frame, number=number, send=send, text=text, now=time.monotonic_ns,
             pid=posix.getpid, tid=get_native_id):
        n = number(op, code)
        if not n:
            return
        file, line, function = '', 0, ''
        if frame is not None:
            file, line, function = text(frame.f_code.co_filename, 400), frame.f_lineno or 0, text(frame.f_code.co_name, 200)
        send((2, pid(), tid(), now(), op, code, n, target, detail, file, line, function))

    def restart(clear=counters.clear, mark=forked.append):
        clear()  # a forked child counts for itself
        mark(True)

    posix.register_at_fork(after_in_child=restart)
    return send, number, emit, counters


def make_frames(roots, stop):
    """runtime: is this file name the runtime's? mine: the script's frame, from f upwards."""
    known = {SELF: True}

    def runtime(name, get=known.get, put=known.__setitem__, size=known.__len__, clear=known.clear, type=type, str=str,
                starts=str.startswith, prefixes=roots + ('<frozen ',)):
        if type(name) is not str:
            return False
        r = get(name)
        if r is None:
            if size() > 5000:
                clear()
            r = starts(name, prefixes)
            put(name, r)
        return r

    def mine(f, runtime=runtime, stop=stop, own=SELF):
        while f is not None:
            code = f.f_code
            if code is stop:
                return None  # what called the script, and nothing of the script's
            name = code.co_filename
            if not runtime(name) and name is not own:
                return f
            f = f.f_back
        return None

    return runtime, mine


def make_paths(config, home):
    """permitted(path, writing): may the script touch it?"""
    readable = directories(config['roots'] + config['readpaths'] + (home, config['exe'] or sys.executable))

    # getcwd(3) of a directory deeper than PATH_MAX climbs to the root by hand, for
    # seconds; readlink(2) of the same says that the name is too long.
    def here(link=posix.readlink, cwd=posix.getcwd, Error=OSError, too_long=36):  # ENAMETOOLONG
        try:
            return link('/proc/self/cwd')
        except Error as e:
            if e.errno == too_long:
                raise
        return cwd()  # a jail without /proc

    def absolute(path, here=here, starts=str.startswith, split=str.split, join=str.join, Error=OSError):
        if not starts(path, '/'):
            try:
                path = here() + '/' + path
            except Error:
                return ''
        if '/.' not in path and '//' not in path:
            return path
        parts = []
        for part in split(path, '/'):
            if part == '..':
                parts = parts[:-1]
            elif part and part != '.':
                parts += [part]
        return '/' + join('/', parts)

    def permitted(path, writing, read=config['read'], write=config['write'], readable=readable,
                  writable=directories(config['writepaths']), starts=str.startswith):
        if path == '/dev/null' or (write if writing else read):
            return True
        return path != '' and starts(path + '/', writable if writing else readable)

    return absolute, permitted


def make_judge(mode, emit):
    """judge: report one attempt; the refusal to raise, if it is one."""
    def judge(op, ok, target, detail, frame, why, errno, emit=emit, bad=DENIED if mode == 'enforce' else OBSERVED,
              Refusal=PermissionError):
        if ok:
            if frame is not None:  # the runtime on its own behalf is no news
                emit(op, 0, target, detail, frame)
            return None
        emit(op, bad, target, detail, frame)
        if bad == 1:
            return Refusal(errno, ('%s %r: %s (sbx policy)' if target else '%s%.0s: %s (sbx policy)') % (op, target, why))
        return None

    return judge


def file_handlers(config, home, judge, exact, text, runtime, mine):
    absolute, permitted = make_paths(config, home)
    roots = directories(config['roots'])
    flags = posix.O_WRONLY | posix.O_RDWR | posix.O_CREAT | posix.O_TRUNC | posix.O_APPEND

    def on_open(args, getframe=sys._getframe, type=type, int=int, exact=exact, absolute=absolute, permitted=permitted,
                runtime=runtime, mine=mine, judge=judge, text=text, flags=flags, starts=str.startswith, ends=str.endswith,
                roots=roots, near=roots + directories([home]), errno=EACCES,
                readers=('/tokenize.py', '/linecache.py', '<frozen importlib._bootstrap_external>', '<frozen zipimport>')):
        path, mode, how = args
        if type(path) is int:
            return None  # a descriptor: what it is was judged when it was opened
        name = exact(path)
        full = '' if name is None else absolute(name)
        writing = type(how) is not int or how & flags != 0
        ok = permitted(full, writing)
        f = getframe(2)
        if not writing and ok and f is not None and runtime(f.f_code.co_filename):
            # Imports, tracebacks quoting source lines, and the library's own data.
            if starts(full, near if ends(f.f_code.co_filename, readers) else roots):
                return None
        shown = text(path)
        return judge('open', ok, shown, 'write' if writing else 'read', mine(f),
                     'writing files is not allowed' if writing else 'reading files is not allowed', errno)

    def on_path(op, writing, first, last):
        def handler(args, op=op, writing=writing, first=first, last=last, getframe=sys._getframe, type=type, int=int,
                    exact=exact, absolute=absolute, permitted=permitted, runtime=runtime, mine=mine, judge=judge, text=text,
                    errno=EACCES):
            f = getframe(2)
            if not writing and f is not None and f.f_code.co_filename == '<frozen importlib._bootstrap_external>':
                return None  # the path finder fills its cache of a directory
            ok = True
            for path in args[first:last]:
                if type(path) is int:
                    return None
                name = '.' if path is None else exact(path)
                ok = ok and permitted('' if name is None else absolute(name), writing)
            shown = text(args[last - 1])
            return judge(op, ok, shown, text(args[0]) if last > 1 else '', mine(f),
                         'writing files is not allowed' if writing else 'reading files is not allowed', errno)
        return handler

    handlers = {'open': on_open}
    for op in ('os.listdir', 'os.scandir', 'os.getxattr', 'os.listxattr'):
        handlers[op] = on_path(op, False, 0, 1)
    for op in ('os.remove', 'os.rmdir', 'os.mkdir', 'os.chmod', 'os.chown', 'os.chflags', 'os.truncate', 'os.utime',
               'os.setxattr', 'os.removexattr'):
        handlers[op] = on_path(op, True, 0, 1)
    handlers['os.rename'] = on_path('os.rename', True, 0, 2)
    handlers['os.symlink'] = on_path('os.symlink', True, 1, 2)
    handlers['os.link'] = on_path('os.link', True, 1, 2)
    return handlers


def network_handlers(config, judge, text, runtime, mine):
    def on_socket(args, getframe=sys._getframe, runtime=runtime, mine=mine, judge=judge, text=text, ok=config['network'],
                  errno=EPERM, type=type, int=int,
                  names={-1: 'AF_INET', 1: 'AF_UNIX', 2: 'AF_INET', 10: 'AF_INET6', 16: 'AF_NETLINK', 17: 'AF_PACKET'}.get,
                  given=('socketpair', 'accept', 'dup', 'fromfd')):
        f = getframe(2)
        family = names(args[1], text(args[1])) if type(args[1]) is int else text(args[1])
        if f is not None and f.f_code.co_name == '__init__' and runtime(f.f_code.co_filename):
            # The library's own class: around a descriptor that is already there?
            up = f.f_back
            if args[1] == -1 or up is not None and up.f_code.co_name in given and runtime(up.f_code.co_filename):
                return None
        return judge('socket.__new__', ok, family, 'type ' + text(args[2]) + ' protocol ' + text(args[3]), mine(f),
                     'network use is not allowed', errno)

    def on_address(op, index):
        def handler(args, op=op, index=index, getframe=sys._getframe, type=type, tuple=tuple, str=str, join=str.join, len=len,
                    text=text, mine=mine, judge=judge, ok=config['network'], errno=EPERM):
            address = args[index]
            if address is None and index:
                return None  # sendmsg on a connected socket
            if not index:
                address = args[:2] if len(args) > 1 and op == 'socket.getaddrinfo' else address
            shown = join(':', [text(x, 300) for x in address[:2]]) if type(address) is tuple else text(address)
            return judge(op, ok, shown, '', mine(getframe(2)),
                         'network use is not allowed', errno)
        return handler

    handlers = {'socket.__new__': on_socket}
    for op in ('socket.connect', 'socket.bind', 'socket.sendto', 'socket.sendmsg'):
        handlers[op] = on_address(op, 1)
    for op in ('socket.getaddrinfo', 'socket.getnameinfo', 'socket.gethostbyname', 'socket.gethostbyaddr'):
        handlers[op] = on_address(op, 0)
    return handlers


def process_handlers(config, judge, text, runtime, mine):
    def on_process(op):
        def handler(args, op=op, getframe=sys._getframe, ends=str.endswith, runtime=runtime, mine=mine, judge=judge, text=text,
                    len=len, ok=config['processes'], errno=EPERM):
            f = getframe(2)
            if ok and op == 'os.posix_spawn' and f is not None and runtime(f.f_code.co_filename) \
                    and ends(f.f_code.co_filename, '/subprocess.py'):
                return None  # reported as subprocess.Popen
            if op == 'subprocess.Popen':
                shown, more = text(args[1]), text(args[0])
            else:
                shown, more = text(args[0]) if len(args) else '', text(args[1]) if len(args) > 1 else ''
            return judge(op, ok, shown, more, mine(f), 'starting processes is not allowed', errno)
        return handler

    ops = ('subprocess.Popen', 'os.system', 'os.exec', 'os.posix_spawn', 'os.spawn', 'os.fork', 'os.forkpty', 'pty.spawn')
    handlers = {op: on_process(op) for op in ops}

    def on_signal(op):  # to whom a signal may go is the kernel's decision; this is its line
        def handler(args, op=op, getframe=sys._getframe, mine=mine, judge=judge, text=text, errno=EPERM):
            return judge(op, True, text(args[0]), text(args[1]), mine(getframe(2)), '', errno)
        return handler

    for op in ('os.kill', 'os.killpg', 'signal.pthread_kill'):
        handlers[op] = on_signal(op)
    return handlers


def tamper_handlers(judge, emit, text, exact, runtime, mine, machinery=MACHINERY):
    """Doors out of what the hook can see. Reported; two of them are closed."""
    def on_door(op, index):
        def handler(args, op=op, index=index, getframe=sys._getframe, runtime=runtime, emit=emit, text=text, len=len):
            f = getframe(2)
            if f is not None and not runtime(f.f_code.co_filename):
                emit(op, 2, text(args[index]) if len(args) > index >= 0 else '', '', f)
        return handler

    def on_ctypes(op, index):
        def handler(args, op=op, index=index, getframe=sys._getframe, runtime=runtime, emit=emit, text=text,
                    starts=str.startswith):
            f = getframe(2)
            while f is not None and runtime(f.f_code.co_filename):
                if starts(f.f_code.co_filename, '<frozen importlib'):
                    return None  # a library that loads another while it is imported
                f = f.f_back
            if f is not None:
                emit(op, 2, text(args[index]), '', f)
        return handler

    def on_code(op):
        def handler(args, op=op, getframe=sys._getframe, runtime=runtime, judge=judge, text=text, exact=exact,
                    machinery=machinery, errno=EPERM):
            f = getframe(2)
            while f is not None and f.f_code.co_filename in machinery:
                if f.f_code.co_name in ('get_code', '_compile_bytecode'):
                    return None  # an import, which names its code as it should
                f = f.f_back
            if f is None or runtime(f.f_code.co_filename):
                return None
            name = exact(args[1])
            if name is None or not runtime(name):
                return None
            return judge(op, False, text(name), 'forged file name', f,
                         'code cannot be named after a file of the runtime', errno)
        return handler

    def on_import(args, getframe=sys._getframe, judge=judge, mine=mine, type=type, str=str, errno=EPERM, Refusal=ImportError,
                  names=('_xxsubinterpreters', '_interpreters')):
        # 3.12 crashes when its own event for a new interpreter is refused, 3.13 has none here.
        if type(args[0]) is str and args[0] in names:
            refusal = judge('import', False, args[0], '', mine(getframe(2)), 'no hook would watch a sub-interpreter', errno)
            return None if refusal is None else Refusal(refusal.strerror, name=args[0])
        return None

    def on_interpreter(args, getframe=sys._getframe, judge=judge, mine=mine, errno=EPERM, late=sys.version_info >= (3, 12)):
        refusal = judge('cpython.PyInterpreterState_New', False, '', '', mine(getframe(2)), 'no hook would watch it', errno)
        return None if late else refusal

    handlers = {'compile': on_code('compile'), 'code.__new__': on_code('code.__new__'), 'import': on_import,
                'cpython.PyInterpreterState_New': on_interpreter}
    for op in ('sys.addaudithook', 'sys.settrace', 'sys.setprofile', 'sys.monitoring.register_callback', 'gc.get_objects',
               'gc.get_referrers', 'gc.get_referents', 'marshal.loads'):
        handlers[op] = on_door(op, -1)
    for op, index in (('ctypes.dlopen', 0), ('ctypes.dlsym', 1), ('ctypes.addressof', 0), ('ctypes.string_at', 0),
                      ('ctypes.wstring_at', 0), ('ctypes.call_function', 0), ('ctypes.cdata', 0)):
        handlers[op] = on_ctypes(op, index)
    return handlers
