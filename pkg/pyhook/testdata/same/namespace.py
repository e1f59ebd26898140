import builtins, sys
print(sorted(vars(builtins).keys() - {'__import__'} ^ set()), __builtins__ is builtins)
print(sorted(n for n in sys.modules if 'sbx' in n.lower() or 'hook' in n.lower()), [n for n in globals() if 'hook' in n or 'boot' in n])
print(__name__, __package__, __spec__, __doc__, sorted(globals()))
print(vars()['__name__'], locals() is globals(), dir() == sorted(globals()))
try:
    main
except NameError as e:
    print(e)
import __main__
print(__main__.__file__ == __file__, __main__.__dict__ is globals())
