out = open(1, 'w', closefd=False)
out.write('grown old\n')
keep = [[] for _ in range(200000)]
