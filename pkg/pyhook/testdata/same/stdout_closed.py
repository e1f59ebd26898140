import sys
sys.stdout.write('kept')
sys.stdout.close()
sys.exit(2)
