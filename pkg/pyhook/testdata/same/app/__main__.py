import sys, helper
print(sys.argv[1:], sys.path[0] == sys.argv[0], __package__ == "", __spec__.name)
helper.fail()
