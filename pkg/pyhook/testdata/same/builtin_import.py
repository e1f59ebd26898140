import builtins
original = builtins.__import__
seen = []
def mine(name, *args, **kwargs):
    seen.append(name)
    return original(name, *args, **kwargs)
builtins.__import__ = mine
import json, os.path
from xml import dom
builtins.__import__ = original
import string
print([name for name in seen if name in ('json', 'xml')], callable(original))
import functools, importlib
@functools.wraps(original)
def wrapped(*args): return original(*args)
print(original.__name__, original.__qualname__, original.__module__, wrapped.__name__, wrapped('json').__name__)
print(importlib.import_module.__name__, importlib.import_module('json').__name__)
