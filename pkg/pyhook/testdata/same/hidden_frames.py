import gc, sys, types
f, n = sys._getframe(), 0
print(f.f_code.co_filename == __file__, f.f_lineno)
def gen():
    yield sys._getframe().f_back is not None
print(list(gen()))
try:
    raise ValueError
except ValueError as e:
    print(e.__traceback__.tb_frame is f, e.__traceback__.tb_next, e.__context__)
print(sys.exc_info())
