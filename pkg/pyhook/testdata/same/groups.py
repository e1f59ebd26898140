def one():
    raise ValueError('one')
def two():
    raise TypeError('two')
found = []
for f in (one, two):
    try:
        f()
    except Exception as e:
        found.append(e)
try:
    raise ExceptionGroup('outer', [found[0], ExceptionGroup('inner', [found[1]])]) from found[1]
except Exception as e:
    e.add_note('a note')
    raise
