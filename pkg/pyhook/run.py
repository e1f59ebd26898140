"""The hook inside the interpreter. CPython 3.8 and later.

Runs before any code of the script, from a boot file (see config.go), and calls
the script as __main__. This part is the whole of it where hooks are off; for the
rest, and the rules that all of it keeps, see hook.py.
"""
import builtins
import posix
import sys

SELF = (lambda: 0).__code__.co_filename
SIGINT = 2


def make_strip(boot):
    """strip: our frames out of tracebacks."""
    base = BaseException.__dict__
    group = getattr(builtins, 'BaseExceptionGroup', None)

    def strip(error, boot=boot, own=SELF, get_tb=base['__traceback__'].__get__, set_tb=base['__traceback__'].__set__,
              cause=base['__cause__'].__get__, context=base['__context__'].__get__, group=group,
              members=group and group.exceptions.__get__, isinstance=isinstance, id=id, len=len):
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

    return strip


class SiteBuiltin:
    """exit, quit, help and the like, which python -S leaves out: made on first use."""
    def __init__(self, name):
        self.__dict__['_name'] = name

    def _real(self):
        import _sitebuiltins
        name = self._name
        if name == 'help':
            real = _sitebuiltins._Helper()
        elif name in ('exit', 'quit'):
            real = _sitebuiltins.Quitter(name, 'Ctrl-D (i.e. EOF)')
        elif name == 'copyright':
            real = _sitebuiltins._Printer(name, sys.copyright)
        else:
            real = _sitebuiltins._Printer(name, 'See https://www.python.org/psf/license/')
        setattr(builtins, name, real)
        return real

    def __call__(self, *args, **kwargs):
        return self._real()(*args, **kwargs)

    def __repr__(self):
        return repr(self._real())

    def __getattr__(self, name):
        return getattr(self._real(), name)


def archive(script, source):
    """Whether python SCRIPT would run __main__ out of it."""
    if source is None:
        return True
    if b'PK\x05\x06' not in source:
        return False
    import zipimport
    try:
        zipimport.zipimporter(script)
    except zipimport.ZipImportError:
        return False
    return True


def prepare(config, source):
    """Make the interpreter look as python started it. Returns __main__ and whether runpy runs it."""
    script = config['script']
    packed = archive(script, source)
    main = type(sys)('__main__')
    space = main.__dict__
    if not packed:
        loader = sys.modules['_frozen_importlib_external'].SourceFileLoader
        space['__loader__'] = loader('__main__', script)
    if sys.version_info < (3, 14):
        space['__annotations__'] = {}
    space['__builtins__'] = builtins
    if not packed:
        space.update(__file__=script, __cached__=None)
    sys.modules['__main__'] = main
    sys.argv[:] = [config['display'], *config['args']]
    sys.path[:] = [script if packed else script.rpartition('/')[0] or '/', *config['path']]
    if config['exe']:
        sys.executable = config['exe']
    if hasattr(sys, 'orig_argv'):
        sys.orig_argv[:] = [sys.executable, *sys.argv]
    for name in ('exit', 'quit', 'copyright', 'credits', 'license', 'help'):
        if not hasattr(builtins, name):
            setattr(builtins, name, SiteBuiltin(name))
    # Since 3.13 the text after -c is kept there as the source of "<string>", the
    # file name that exec() gives to the script's own strings.
    sys.modules.pop('linecache', None)
    # The frames below the script count too: the script gets as many as without them.
    sys.setrecursionlimit(sys.getrecursionlimit() + (2 if sys.version_info >= (3, 12) else 3))
    return main, packed


def read(script):
    """The bytes of a script; None for a directory. Errors are python's own words."""
    try:
        fd = posix.open(script, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            size = posix.fstat(fd).st_size + 4096  # none for a pipe
            return b''.join(iter(lambda: posix.read(fd, size), b''))
        finally:
            posix.close(fd)
    except IsADirectoryError:
        return None
    except OSError as e:
        sys.stderr.write("%s: can't open file %r: [Errno %d] %s\n" % (sys.executable, script, e.errno, e.strerror))
        posix._exit(2)


def compiled(script, source):
    """The code of a script that compiles without a complaint, else None.

    compile() first makes all the classes of the ast module, which takes longer
    than everything else here together. exec() does not, but runs the code and
    names it "<string>": so the frame is left before its first instruction.
    """
    space, found, warnings = {}, [], sys.modules['_warnings']

    def take(frame, event, arg):
        if frame.f_globals is space:
            found.append(frame.f_code)
            raise StopIteration

    # A warning would name the wrong file: let compile() give it.
    warnings.filters.insert(0, ('error', None, Warning, None, 0))
    warnings._filters_mutated()
    sys.settrace(take)
    try:
        exec(source, space)
    except Exception:
        pass
    finally:
        sys.settrace(None)
        del warnings.filters[0]
        warnings._filters_mutated()
    if not found:
        return None
    sys.modules['_imp']._fix_co_filename(found[0], script)
    return found[0]


def load(script, source, start):
    """Compile as the interpreter does from a file: its complaints about the
    encoding differ from those of compile()."""
    try:
        code = compiled(script, source) if sys.version_info < (3, 14) else None
    finally:
        start()  # later than this: tracing is an event
    if code is not None:
        return code
    try:
        return compile(source, script, 'exec', dont_inherit=True)
    except (SyntaxError, ValueError) as e:
        if source[:3] == b'\xef\xbb\xbf' and isinstance(e, SyntaxError) and e.msg.endswith(' with BOM'):
            raise SyntaxError(e.msg, *[(script, 1, 0, None)] if sys.version_info < (3, 9) else ()) from None
        raise encoding_error(script, source) or e from None


def encoding_error(script, source):
    """The complaint about a file whose bytes are not in its encoding, or None."""
    version = sys.version_info
    encoding = cookie(source)
    try:
        source.decode(encoding or 'utf-8')
        return None
    except LookupError:
        start = 0
    except UnicodeDecodeError as e:
        start = e.start
    if encoding:
        text, line = 'encoding problem: ' + encoding, 1
    else:
        line = source.count(b'\n', 0, start) + 1
        site = 'https://peps.python.org' if version >= (3, 11) else 'https://python.org/dev/peps'
        if version < (3, 9):
            site = 'http://python.org/dev/peps'
        text = "Non-UTF-8 code starting with '\\x%02x' in file %s on line %d, but no encoding declared; see %s/pep-0263/ for details"
        text %= source[start], script, line + (version[:2] == (3, 10)), site
    return SyntaxError(text, (script, line, 0, None)) if version < (3, 9) else SyntaxError(text)


def cookie(source):
    """The encoding that one of the first two lines declares (PEP 263), or ''."""
    for line in source.split(b'\n', 2)[:2]:
        before, mark, after = line.partition(b'coding')
        if mark and before.lstrip()[:1] == b'#' and after[:1] in (b':', b'='):
            return (after[1:].split() or [b''])[0].decode('latin-1')
        if line.strip() and line.lstrip()[:1] != b'#':
            return ''
    return ''


def status_of(leaving):
    """The exit status for a SystemExit, as handle_system_exit() in Python/pythonrun.c."""
    code = leaving.code
    if code is None:
        return 0
    if isinstance(code, int):
        return int(code) & 0xff if -1 << 63 <= code < 1 << 63 else 0xff
    try:
        sys.stderr.write(str(code))
    except BaseException:
        pass
    try:
        sys.stderr.write('\n')
    except BaseException:
        pass
    return 1


def show(error, display, strip):
    """Print an uncaught exception as PyErr_PrintEx() does; returns the exit status."""
    kind, tb = type(error), error.__traceback__
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, tb
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    hook = getattr(sys, 'excepthook', None)
    if hook is None:
        sys.stderr.write('sys.excepthook is missing\n')
        display(kind, error, tb)
        return 1
    try:
        sys.audit('sys.excepthook', hook, kind, error, tb)
    except RuntimeError:
        return 1
    except BaseException:
        pass
    try:
        hook(kind, error, tb)
    except SystemExit as leaving:
        return status_of(leaving)
    except BaseException as second:
        strip(second)
        sys.stderr.write('Error in sys.excepthook:\n')
        display(type(second), second, second.__traceback__)
        sys.stderr.write('\nOriginal exception was:\n')
        display(kind, error, tb)
    return 1


def collector():
    """The module gc, without leaving it behind: a script finds it as not imported."""
    imp = sys.modules['_imp']
    gc = imp.create_builtin(type(sys.__spec__)('gc', None))
    imp.exec_builtin(gc)
    sys.modules.pop('gc', None)
    return gc


def promotions(gc):
    """How often the collector has put younger objects among the oldest."""
    return [generation['collections'] for generation in gc.get_stats()[1:]]


def flush_open_files(gc, before):
    """Flush what the interpreter would flush when it frees it. False if there is
    more to do then than that: finalizers, suspended generators, files whose class
    is written in Python. Only the interpreter's own end can do these."""
    io = sys.modules['_io']
    frozen, promoted = before
    if gc.get_freeze_count() > frozen:
        return False  # these objects are not listed
    if promotions(gc) == promoted and 'gc' not in sys.modules and sys.version_info < (3, 14):
        objects = gc.get_objects(0) + gc.get_objects(1)  # all that the script has made
    else:
        objects = gc.get_objects()
    kinds = set(map(type, objects))
    lineage, space = type.__dict__['__mro__'].__get__, type.__dict__['__dict__'].__get__
    builtin = type(object.__init__)
    for kind in kinds:
        for parent in lineage(kind):
            if type(space(parent).get('__del__', object.__init__)) is not builtin:
                return False
        if issubclass(kind, io._IOBase) and space(kind).get('__module__') != '_io' and kind not in vars(io).values():
            return False
    generator, streams = type(x for x in ()), (io.TextIOWrapper, io._BufferedIOBase)
    wanted = {kind for kind in kinds if kind is generator or issubclass(kind, streams)}
    found = [o for o in objects if type(o) in wanted]
    if any([type(o) is generator and o.gi_frame is not None for o in found]):
        return False
    for layer in streams:  # text first: it fills the buffer below
        for o in found:
            if isinstance(o, layer):
                try:
                    o.flush()
                except BaseException:
                    pass
    return True


def finish(status, failure, flush, end):
    """What Py_FinalizeEx() does that a script can see, and then the end."""
    interrupted = isinstance(failure, KeyboardInterrupt)
    # Too large for a C long: the interpreter's complaint differs by version.
    huge = isinstance(failure, SystemExit) and isinstance(failure.code, int) and not -1 << 63 <= failure.code < 1 << 63
    for name, function in (('threading', '_shutdown'), ('atexit', '_run_exitfuncs')):
        module = sys.modules.get(name)
        if module is not None:
            try:
                getattr(module, function)()
            except BaseException as e:
                if name == 'threading':
                    sys.excepthook(type(e), e, e.__traceback__)
    clean = True
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BaseException:
            clean = False  # the interpreter says so itself, and makes the status 120
    fast = clean and not huge and flush()
    end(130 if interrupted else status if clean else 120)
    if not fast:
        if interrupted:
            sys.excepthook = lambda *a: None
            raise KeyboardInterrupt
        raise SystemExit(failure.code if huge else status)
    if interrupted:
        import _signal
        _signal.signal(SIGINT, _signal.SIG_DFL)
        posix.kill(posix.getpid(), SIGINT)
    posix._exit(status)


def calibrate(numbers, call=posix.setresuid):
    """One call that is refused, by which sbx sees that it reads our stack right."""
    try:
        call(*numbers)
    except OSError:
        pass


def begin(config, source, boot, stop):
    """All that comes before the script. Returns what main() runs, what it does
    right before, and what afterwards."""
    if config['calibrate']:
        calibrate(config['calibrate'])
    gc = collector()
    gc.disable()  # nothing that is made until the script starts is garbage
    display, strip = sys.excepthook, make_strip(boot)
    module, packed = prepare(config, source)
    report = end = lambda *a: None
    flush = lambda: False

    def start():
        nonlocal report, end, flush
        if config['mode'] != 'off':
            report, end = install(config, sys.path[0], stop, strip)
        if config['fastexit']:
            # What is there now has nothing to flush. It is put among the oldest
            # objects, and the end looks at the younger ones.
            frozen = gc.get_freeze_count()
            if frozen:
                gc.collect(1)  # 3.12 freezes its own first objects, which have to stay so
            else:
                gc.freeze()
                gc.unfreeze()
            before = frozen, promotions(gc)
            flush = lambda: flush_open_files(gc, before)
        gc.enable()

    def conclude(failure):
        status = 0
        if isinstance(failure, SystemExit):
            status = status_of(failure)
        elif failure is not None:
            strip(failure)
            report('main', failure)
            status = show(failure, display, strip)
        finish(status, failure, flush, end)

    return module, packed, start, conclude


def main(config, /, begin=begin, read=read, load=load, getframe=sys._getframe, exec=exec, Any=BaseException):
    source = read(config['script'])
    module, packed, start, conclude = begin(config, source, getframe(1).f_code, getframe().f_code)
    code = failure = None
    try:
        if packed:
            start()
            start = None
            import runpy
            runpy._run_module_as_main('__main__', False)
        else:
            code = load(config['script'], source, start)
            source = start = None
            exec(code, module.__dict__)
    except Any as e:
        failure = e
    code = source = start = None
    conclude(failure)


# While the script runs this frame is below it: its globals lead nowhere.
main = type(main)(main.__code__, {'__builtins__': builtins}, 'main', main.__defaults__)
