import sys
del sys.excepthook
raise ValueError('nobody shows me')
