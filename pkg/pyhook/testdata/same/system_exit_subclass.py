class Stop(SystemExit):
    def __str__(self):
        return 'never shown'
class Text:
    def __str__(self):
        return 'my own text'
try:
    raise Stop(4)
except SystemExit as e:
    print(repr(e.code))
raise Stop(Text())
