import sys, warnings
print(warnings.filters == [] , sys.warnoptions)
warnings.simplefilter('always')
def old():
    warnings.warn('old', DeprecationWarning, stacklevel=2)
old()
exec("import deprecated")
warnings.simplefilter('error')
print("%d" % 1 is 1)
old()
