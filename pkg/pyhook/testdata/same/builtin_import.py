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
