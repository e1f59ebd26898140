import pickle, sys, copyreg
class Mine:
    def __init__(self):
        self.x = 1
    class Inner:
        pass
def function():
    pass
print(Mine.__module__, Mine.Inner.__qualname__, function.__module__)
for thing in (Mine(), Mine.Inner(), Mine, function):
    back = pickle.loads(pickle.dumps(thing))
    print(type(back).__name__, back is thing)
