import atexit, sys, tempfile, weakref
class Thing:
    pass
keep = Thing()
weakref.finalize(keep, print, 'finalize')
atexit.register(print, 'atexit')
folder = tempfile.TemporaryDirectory()
out = open(folder.name + '/file', 'w')
print('main')
