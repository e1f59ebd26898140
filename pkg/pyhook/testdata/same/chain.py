def inner():
    {}['missing']

try:
    try:
        inner()
    except KeyError as e:
        raise ValueError('second') from e
except ValueError:
    raise RuntimeError('third')
