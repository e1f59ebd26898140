import warnings
warnings.warn('shown', DeprecationWarning)
def f():
    warnings.warn('caller', stacklevel=2)
f()
import deprecated
