import sys
for s in (sys.stdin, sys.stdout, sys.stderr):
    print(s.encoding, s.errors, s.line_buffering, s.fileno(), s.name, s.mode, s.isatty(), s.newlines)
print('caf\u00e9 \U0001f40d', sys.getfilesystemencoding(), sys.getdefaultencoding())
print('to stderr \udcff', file=sys.stderr)
sys.stdout.buffer.write(b'\xff raw\n')
sys.stdout.write('partial')
sys.stderr.write('partial')
