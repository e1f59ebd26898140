import sys
print('ok')
sys.exit('bad \udcff text')
