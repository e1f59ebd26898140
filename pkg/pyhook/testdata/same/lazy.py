"""imported by import_errors.py, and a script of its own"""
import sys
def __getattr__(name):
    if name == 'made':
        return 'made ' + name
    raise AttributeError(name)
sys.stdout.write(__name__ + '\n')
if __name__ == '__main__':
    import lazy
    from lazy import made
    print(made)
    from lazy import missing
