from sys import argv


def f():
    return 'source'
