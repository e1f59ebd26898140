print(repr(input('prompt> ')) if False else 'asked')
try:
    input('prompt> ')
except EOFError as e:
    print(repr(e))
input()
