import sys, traceback
for text in ('from json import nothing', 'import json.nothing', 'from . import x', 'from .. import y', '__import__("")',
             '__import__(1)', 'import json as j; j.nothing', 'from json import *; loads', '__import__("json", level=-1)',
             '__import__("json", fromlist=("a", 1))',
             'import importlib; importlib.import_module(".x")', 'import importlib; importlib.import_module("json.nothing")',
             'import importlib; importlib.reload(sys); print("reloaded")', 'import importlib; print(importlib.import_module(name="json").__name__)',
             'import importlib; print(importlib.import_module(".decoder", package="json").__name__)',
             'print(__import__("os.path").__name__, __import__("os.path", None, None, ["x"]).__name__)',
             'print(__import__(name="json", globals={}, locals=None, fromlist=(), level=0).__name__)'):
    try:
        exec(text)
    except BaseException as e:
        print(text, '->', type(e).__name__, e, getattr(e, 'name', None))
        traceback.print_exc()
import lazy
