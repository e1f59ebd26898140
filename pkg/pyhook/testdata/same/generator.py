import contextlib, gzip, io, sys

@contextlib.contextmanager
def held():
    try:
        yield
    finally:
        print('left')

keep = held()
keep.__enter__()
sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8', write_through=False)
print('replaced stream')
