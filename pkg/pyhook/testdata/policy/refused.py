"""Each line tries one thing that the policy refuses, and says how it was told."""
import json, pathlib, importlib, builtins, sqlite3  # whatever these import themselves
import _socket, posix, _io

def refused(what):
    try:
        what()
    except (PermissionError, ImportError) as e:
        assert str(e).endswith('(sbx policy)'), e
        t = e.__traceback__
        while t.tb_next:
            t = t.tb_next
        held = [k for k, v in t.tb_frame.f_locals.items() if callable(v)] if t.tb_frame.f_code.co_filename == '<sbx>' else []
        assert not held, held
        print(type(e).__name__, e)
    else:
        print('NOT REFUSED')

def attempt():
    refused(lambda: __import__('os'))
    refused(lambda: exec('from os import path'))
    refused(lambda: importlib.import_module('os'))
    refused(lambda: importlib.import_module('urllib.request'))
    refused(lambda: __import__('urllib.robotparser', level=0))
    refused(lambda: exec('from xml import sax'))
    refused(lambda: open('/etc/passwd'))
    refused(lambda: open(b'/etc/passwd', 'rb'))
    refused(lambda: pathlib.Path('/etc/passwd').read_text())
    refused(lambda: posix.open('/etc/passwd', 0))
    refused(lambda: _io.FileIO('/etc/passwd'))
    refused(lambda: open(base + '/../../../../../etc/passwd'))
    refused(lambda: open('made', 'w'))
    refused(lambda: posix.listdir('/etc'))
    refused(lambda: posix.scandir('/etc'))
    refused(lambda: posix.remove('/tmp/none'))
    refused(lambda: posix.rename('/tmp/a', '/tmp/b'))
    refused(lambda: posix.mkdir('/tmp/none'))
    refused(lambda: posix.symlink('/etc', '/tmp/none'))
    refused(lambda: _socket.socket())
    refused(lambda: _socket.socket(_socket.AF_UNIX))
    refused(lambda: _socket.getaddrinfo('example.org', 80))
    refused(lambda: posix.system('true'))
    refused(lambda: posix.fork())
    refused(lambda: posix.execv('/bin/true', ['true']))
    refused(lambda: posix.posix_spawn('/bin/true', ['true'], {}))
    refused(lambda: compile('1', json.__file__, 'exec'))
    refused(lambda: attempt.__code__.replace(co_filename='<frozen os>'))

base = json.__file__.rpartition('/')[0]
attempt()
