import gzip, io
out = io.TextIOWrapper(gzip.GzipFile(fileobj=open(1, 'wb', closefd=False, buffering=0), mode='wb', mtime=0))
out.write('trailer and all')
