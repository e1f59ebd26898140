

def make_errors(number, send, runtime, boot):
    """strip: our frames out of tracebacks. report: a record of an exception that nobody caught."""
    base = BaseException.__dict__
    get_tb, set_tb = base['__traceback__'].__get__, base['__traceback__'].__set__
    group = getattr(builtins, 'BaseExceptionGroup', None)
    members = group.exceptions.__get__ if group else None

    def strip(error, boot=boot, own=SELF, get_tb=get_tb, set_tb=set_tb, cause=base['__cause__'].__get__,
              context=base['__context__'].__get__, group=group, members=members, isinstance=isinstance, id=id, len=len):
        todo, done = [error], {}
        while todo and len(done) < 1000:
            e, todo = todo[-1], todo[:-1]
            if e is None or id(e) in done:
                continue
            done[id(e)] = True
            tb = get_tb(e)
            while tb is not None and (tb.tb_frame.f_code is boot or tb.tb_frame.f_code.co_filename is own):
                tb = tb.tb_next
            set_tb(e, tb)
            while tb is not None:
                after = tb.tb_next
                if after is not None and after.tb_frame.f_code.co_filename is own:
                    tb.tb_next = after.tb_next
                else:
                    tb = after
            todo += [cause(e), context(e)]
            if group is not None and isinstance(e, group):
                todo += members(e)

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

    def report(where, error, number=number, send=send, get_tb=get_tb, runtime=runtime, message=message, syntax=syntax,
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

    return strip, report, on_unraisable


def make_imports(config, emit, runtime, strip, report, exact):
    """Replace builtins.__import__: the audit event "import" tells neither who
    imports, nor of modules that are loaded already, such as os."""
    thrower = (x for x in ())
    list(thrower)
    # A generator that has ended raises what is thrown into it without a frame of
    # its own. So does the property below, which C reads after __new__: with it a
    # failed import leaves the same traceback as without the wrapper.
    base = BaseException.__dict__
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

    def failed(cls, error, throw=thrower.throw, get_tb=get_tb, set_tb=set_tb, make=object.__new__, partial=partial):
        tb = get_tb(error)
        if tb is not None:
            set_tb(error, tb.tb_next)  # the wrapper's own frame comes first
        outcome = make(cls)
        outcome.fail = partial(throw, error)
        return outcome

    patched = []

    def later(patched=patched, modules=sys.modules, len=len, patches={}):
        for name in ('threading', 'importlib'):
            if name not in patched and name in modules:
                patched += [name]
                patches[name](modules[name])

    class Import:
        __slots__ = ('fail',)
        __init__ = property(methodcaller('fail'))

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
        # The name that a call with wrong arguments is told under.
        kind.__new__.__qualname__ = original.__name__
        return partial(kind, (original, check, failed, runtime, later, sys._getframe, exact, BaseException, sys.exc_info))

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
