"""doc"""
import sys
print(sorted(k for k in globals()), __name__, __file__, __spec__, __package__, __doc__, type(__loader__).__name__)
print(sys.argv, sys.path[0], sys.executable == getattr(sys, 'orig_argv', [sys.executable])[0])
print(sys.modules['__main__'].__dict__ is globals(), __builtins__.__name__)
print(sys.excepthook is sys.__excepthook__, sys.unraisablehook is sys.__unraisablehook__)
import warnings
print([f[0] for f in warnings.filters], repr(exit), repr(quit), callable(help))
