"""Answers, as JSON on standard output, what sbx must know of this interpreter.

Run as `python -I -S -B -c <this>` with the hook's source on standard input.
Code of installed packages is not imported; their directories are listed only.
"""
import sys

if sys.version_info < (3, 8):
    sys.stdout.write('{"version": "%d.%d.%d"}' % sys.version_info[:3])
    sys.exit(0)

import json
import marshal
import os
import sysconfig

hook = sys.stdin.buffer.read()
isolated = [p for p in sys.path if os.path.exists(p)]
stdlib = os.path.dirname(os.__file__)


def code(source):
    return marshal.dumps(compile(source, "<sbx>", "exec", dont_inherit=True, optimize=2))


def boot():
    """All of the hook, and the part that a run without hooks needs (see pyhook.BootFile)."""
    small = code(hook.partition(b"\f")[0])
    return code(hook) + small + len(small).to_bytes(4, "little")


def site_directories():
    import site

    # -S leaves out the step that sees a virtual environment (PEP 405).
    prefix = os.path.dirname(os.path.dirname(sys.executable))
    try:
        with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8", errors="replace") as f:
            lines = [[part.strip().lower() for part in line.split("=", 1)] for line in f]
    except OSError:
        lines = None
    found = []
    if lines is not None:
        free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
        name = "python%d.%d%s" % (*sys.version_info[:2], free)
        found += [os.path.join(prefix, lib, name, "site-packages") for lib in ("lib", "lib64")]
    if lines is None or ["include-system-site-packages", "true"] in lines:
        found += site.getsitepackages([sys.prefix, sys.exec_prefix])
    out = []
    for d in found:
        d = os.path.realpath(d)
        if os.path.isdir(d) and d not in out:
            out.append(d)
    return out


extensions = []
for folder in isolated:
    if os.path.isdir(folder):
        extensions += [os.path.join(folder, n) for n in sorted(os.listdir(folder)) if n.endswith(".so")]

print(json.dumps({
    "version": "%d.%d.%d" % sys.version_info[:3],
    "implementation": sys.implementation.name,
    "prefix": sys.prefix,
    "exec_prefix": sys.exec_prefix,
    "stdlib": stdlib,
    "std_path": isolated,
    "site_packages": site_directories(),
    "extensions": extensions,
    "shared": bool(sysconfig.get_config_var("Py_ENABLE_SHARED")),
    "boot": boot().hex(),
}))
