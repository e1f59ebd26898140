print('before')
print('bad \udcff text')
