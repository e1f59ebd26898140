import gzip, sys
out = gzip.open(open(1, 'wb', closefd=False, buffering=0), 'wt')
out.write('trailer and all')
