import sys
def hook(*args):
    print('hook')
    sys.exit(8)
sys.excepthook = hook
raise ValueError
