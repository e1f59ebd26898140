code = compile("def f():\n    raise ValueError('in exec')\nf()", '<mine>', 'exec')
try:
    exec(code)
except ValueError:
    import traceback
    traceback.print_exc()
exec("import json\njson.loads('{')")
