try:
    eval('1 +')
except SyntaxError as e:
    print(e, e.lineno, e.filename)
compile('x = = 1', __file__, 'exec')
