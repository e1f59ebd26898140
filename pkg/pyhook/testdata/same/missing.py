import traceback, importlib
for how in (lambda: __import__('nosuch.module'), lambda: importlib.import_module('nosuch'), lambda: exec('import nosuch')):
    try:
        how()
    except ImportError as e:
        traceback.print_exc()
        print(repr(e), e.name, e.__context__)
try:
    import broken
except ZeroDivisionError:
    traceback.print_exc()
import broken.sub
