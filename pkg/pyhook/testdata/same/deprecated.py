import warnings
warnings.warn('do not import me', DeprecationWarning, stacklevel=2)
