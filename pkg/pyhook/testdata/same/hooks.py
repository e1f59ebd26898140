import sys
def hook(kind, value, tb):
    print(kind.__name__, value, tb.tb_frame.f_code.co_name, tb.tb_next)
    raise LookupError('in the hook')
sys.excepthook = hook
1 / 0
