import inspect, linecache, sys, traceback
def shown(x):
    """doc"""
    return x + 1
class Held:
    def method(self):
        return 1
print(inspect.getsource(shown), inspect.getsource(Held.method), inspect.getsourcefile(shown) == __file__)
print(repr(linecache.getline(__file__, 1)), inspect.getmodule(shown) is sys.modules['__main__'])
print(inspect.signature(shown), inspect.currentframe().f_code.co_name)
