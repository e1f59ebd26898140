

def make_report(number, send, runtime, strip):
    """report: a record of an exception that nobody caught."""
    base = BaseException.__dict__

    def value(x, type=type, plain=(str, int, float, bytes, bool, type(None)), repr=repr, int=int,
              name=type.__dict__['__name__'].__get__):
        kind = type(x)
        return repr(x)[:600] if kind in plain and (kind is not int or x.bit_length() < 200) else '<' + name(kind) + '>'

    def message(error, args=base['args'].__get__, type=type, str=str, len=len, join=str.join, value=value,
                isinstance=isinstance, Key=KeyError, OSErr=OSError, number=OSError.errno.__get__, words=OSError.strerror.__get__,
                place=OSError.filename.__get__):
        # str(error) would call the script's code, and could be made to call it twice.
        items = args(error)
        if isinstance(error, OSErr) and type(words(error)) is str:
            s = '[Errno %s] %s' % (value(number(error)), words(error)[:600])
            return s if place(error) is None else s + ': ' + value(place(error))
        if len(items) == 1 and type(items[0]) is str and not isinstance(error, Key):
            return items[0][:1000]
        return join(', ', [value(x) for x in items[:8]])[:1000]

    def syntax(error, line=SyntaxError.lineno.__get__, file=SyntaxError.filename.__get__, msg=SyntaxError.msg.__get__,
               type=type, str=str, int=int):
        if type(line(error)) is not int or type(file(error)) is not str or not 0 <= line(error) < 1 << 31:
            return None
        return file(error)[:400], line(error), (msg(error) if type(msg(error)) is str else '')[:1000]

    def report(where, error, number=number, send=send, get_tb=base['__traceback__'].__get__, runtime=runtime,
               message=message, syntax=syntax,
               now=time.monotonic_ns, pid=posix.getpid, tid=get_native_id, type=type, isinstance=isinstance,
               Syntax=SyntaxError, name=type.__dict__['__name__'].__get__):
        n = number(where, 2)
        if not n:
            return
        at, tb = None, get_tb(error)
        while tb is not None:
            if at is None or not runtime(tb.tb_frame.f_code.co_filename):
                at = tb
            tb = tb.tb_next
        text, file, line, function = message(error), '', 0, ''
        if at is not None:
            code = at.tb_frame.f_code
            file, line, function = code.co_filename[:400], at.tb_lineno or 0, code.co_name[:200]
        if isinstance(error, Syntax):
            found = syntax(error)
            if found is not None:
                text = found[2]
                if at is None or runtime(file):
                    file, line, function = found[0], found[1], '<module>'
        send((3, pid(), tid(), now(), where, n, name(type(error))[:200], text, file, line, function))

    def on_unraisable(args, strip=strip, report=report, type=type, isinstance=isinstance, Error=BaseException,
                      flags=type.__dict__['__flags__'].__get__, tuple=tuple, issubclass=issubclass):
        kind = type(args[1])
        if flags(kind) & 1 << 9 or not issubclass(kind, tuple):
            return  # Py_TPFLAGS_HEAPTYPE: made by the script, not by the interpreter
        error = args[1].exc_value
        if isinstance(error, Error):
            strip(error)
            report('unraisable', error)

    return report, on_unraisable


def make_imports(config, emit, runtime, strip, report, exact):
    """Replace builtins.__import__: the audit event "import" tells neither who
    imports, nor of modules that are loaded already, such as os."""
    thrower = (x for x in ())
    list(thrower)
    # A generator that has ended raises what is thrown into it without a frame of
    # its own. So does the property below, which C reads after __new__ and which
    # asks for the next step: with it a failed import leaves the same traceback as
    # without the wrapper.
    base = BaseException.__dict__
    bind = type(sys.__spec__.__repr__)  # a method: no frame, no module to load, and nobody can change it
    allowed = config['allowed']

    def denied(name, fromlist, restricted=frozenset(config['restricted']),
               allowed=None if allowed is None else frozenset(allowed + ('__future__', '__main__')),
               split=str.split, join=str.join, type=type, tuple=tuple, list=list, str=str, len=len, range=range):
        parts = split(name, '.')
        names = [join('.', parts[:i + 1]) for i in range(len(parts))]
        inner = [name + '.' + x for x in fromlist if type(x) is str] if type(fromlist) is tuple else []
        for x in names:
            if x in restricted:
                return name
        for x in inner:
            if x in restricted:
                return x
        if allowed is None or type(fromlist) is list:
            return None
        for x in names:
            if x in allowed:
                return None
        for x in inner:
            if x not in allowed:
                return name
        return None if inner else name

    def check(name, fromlist, f, denied=denied, runtime=runtime, emit=emit, seen=set(), id=id, len=len,
              type=type, list=list, bad=config['mode'],
              Refusal=ImportError):
        refused = denied(name, fromlist)
        if refused is None:
            if type(fromlist) is list:
                return None  # C code that imports for itself, such as strptime's
            key = (name, id(f.f_code), f.f_lineno)
            if key not in seen:
                if len(seen) < 5000:
                    seen.add(key)
                emit('import', 0, name[:1000], '', f)
            return None
        emit('import', 1 if bad == 'enforce' else 2, refused[:1000], '', f)
        if bad == 'enforce':
            return Refusal("importing '%s' is not allowed (sbx policy)" % refused, name=refused)
        return None

    get_tb, set_tb = base['__traceback__'].__get__, base['__traceback__'].__set__

    def failed(cls, error, throw=thrower.throw, get_tb=get_tb, set_tb=set_tb, make=object.__new__, bind=bind):
        tb = get_tb(error)
        if tb is not None:
            set_tb(error, tb.tb_next)  # the wrapper's own frame comes first
        outcome = make(cls)
        outcome.__next__ = bind(throw, error)
        return outcome

    patched = []

    def later(patched=patched, modules=sys.modules, len=len, patches={}):
        for name in ('threading', 'importlib'):
            if name not in patched and name in modules:
                patched += [name]
                patches[name](modules[name])

    class Import:
        __slots__ = ('__next__',)
        __init__ = property(next)

        def __new__(cls, tools, name, globals=None, locals=None, fromlist=(), level=0):
            original, check, failed, runtime, later, getframe, exact, Any, info = tools
            try:
                plain = exact(name)
                f = getframe(1)
                if plain is not None and not runtime(f.f_code.co_filename):
                    refusal = check(plain, fromlist, f) if level == 0 else None
                    if refusal is not None:
                        refusal.__context__ = info()[1]
                        return failed(cls, refusal)
                module = original(name if plain is None else plain, globals, locals, fromlist, level)
                if plain == 'threading' or plain == 'importlib' or fromlist and plain == 'importlib.util':
                    later()
                return module
            except Any as error:
                return failed(cls, error)

    class ImportModule(Import):
        __slots__ = ()

        def __new__(cls, tools, name, package=None):
            original, check, failed, runtime, later, getframe, exact, Any, info = tools
            try:
                plain = exact(name)
                f = getframe(1)
                if plain is not None and plain[:1] != '.' and not runtime(f.f_code.co_filename):
                    refusal = check(plain, (), f)
                    if refusal is not None:
                        refusal.__context__ = info()[1]
                        return failed(cls, refusal)
                module = original(name if plain is None else plain, package)
                later()
                return module
            except Any as error:
                return failed(cls, error)

    def wrap(kind, original):
        code = kind.__new__.__code__
        # Under this name warnings look past the wrapper for whom to blame.
        kind.__new__.__code__ = code.replace(co_filename=MACHINERY[0])
        # The name that it has, also where a call has wrong arguments.
        kind.__name__ = kind.__qualname__ = kind.__new__.__qualname__ = original.__name__
        return bind(kind, (original, check, failed, runtime, later, sys._getframe, exact, BaseException, sys.exc_info))

    def patch_importlib(module):
        module.import_module = wrap(ImportModule, module.import_module)

    def patch_threading(module):
        original = module.excepthook

        def excepthook(args, /, original=original, kind=module.ExceptHookArgs, strip=strip, report=report, type=type,
                       End=SystemExit, issubclass=issubclass):
            if type(args) is kind and args.exc_value is not None and not issubclass(args.exc_type, End):
                strip(args.exc_value)
                report('thread', args.exc_value)
            return original(args)

        module.excepthook = excepthook

    later.__defaults__[-1].update(importlib=patch_importlib, threading=patch_threading)

    builtins.__import__ = wrap(Import, builtins.__import__)


def make_audit(handlers, mode):
    def audit(event, args, /, get=handlers.get, odd=(IndexError, TypeError, ValueError), Refusal=PermissionError,
              enforce=mode == 'enforce'):
        handler = get(event)
        if handler is None:
            return
        try:
            refusal = handler(args)
        except odd:
            # sys.audit is public: an event of another shape than the interpreter's.
            refusal = Refusal(1, event + ': malformed event (sbx policy)') if enforce else None
        if refusal is None:
            return
        get = handler = args = Refusal = odd = None
        raise refusal

    return audit


def install(config, home, stop, strip):
    """Start to watch. Returns what the end needs to report."""
    exact, text = make_text()
    send, number, emit, counters = make_emit(config['fd'], config['cap'], text)
    runtime, mine = make_frames(directories(config['roots']), stop)
    judge = make_judge(config['mode'], emit)
    report, on_unraisable = make_report(number, send, runtime, strip)
    handlers = file_handlers(config, home, judge, exact, text, runtime, mine)
    handlers.update(network_handlers(config, judge, text, runtime, mine))
    handlers.update(process_handlers(config, judge, text, runtime, mine))
    handlers.update(tamper_handlers(judge, emit, text, exact, runtime, mine))
    handlers['sys.unraisablehook'] = on_unraisable
    make_imports(config, emit, runtime, strip, report, exact)

    cap = config['cap']

    def end(status):
        totals = [(op, code, n) for (op, code), n in [(key, counters[key]() - 1) for key in list(counters)] if n > cap]
        while True:  # as many records as it takes at less than PIPE_BUF each
            send((4, posix.getpid(), get_native_id(), time.monotonic_ns(), status, tuple(totals[:50])))
            totals = totals[50:]
            if not totals:
                return

    send((1, posix.getpid(), get_native_id(), time.monotonic_ns(), '%d.%d.%d' % sys.version_info[:3], config['mode']))
    sys.addaudithook(make_audit(handlers, config['mode']))
    return report, end
