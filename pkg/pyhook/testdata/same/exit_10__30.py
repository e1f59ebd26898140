import sys
print("out")
sys.exit(10**30)
