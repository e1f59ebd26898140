"""Imports modules that the default profile keeps from a script."""
for name in ("os", "subprocess", "socket"):
    try:
        __import__(name)
        print(name, "imported")
    except ImportError as error:
        print(name, "refused:", error)

import json  # loads os behind the scenes, which is the library's own business

print(json.dumps({"json": "works"}))
import shutil
