import gc
class Last:
    def __del__(self):
        print('finalized')
keep = Last()
out = open(1, 'w', closefd=False)
out.write('frozen\n')
gc.freeze()
