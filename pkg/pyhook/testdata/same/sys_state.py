import os, sys
print(sys.argv[1:], sys.path[0] == os.path.dirname(__file__), sys.path[1:] == [p for p in sys.path[1:] if p], '' in sys.path)
print(sys.getrecursionlimit() - len([1]) > 900, sys.gettrace(), sys.getprofile(), sys.flags.optimize, sys.flags.verbose, sys.dont_write_bytecode)
print(sys.getswitchinterval(), sys.displayhook is sys.__displayhook__, sys.breakpointhook is sys.__breakpointhook__)
print(os.path.basename(sys.executable)[:7], sys.prefix == sys.base_prefix, sys.stdin is sys.__stdin__)
