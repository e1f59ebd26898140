import multiprocessing, concurrent.futures, os
class Item:
    def __init__(self, n):
        self.n = n
def work(item):
    if item.n == 3:
        raise ValueError('three')
    return item.n * 2
if __name__ == '__main__':
    context = multiprocessing.get_context('fork')
    with context.Pool(1) as pool:
        print(pool.map(work, [Item(1), Item(2)]))
        try:
            pool.apply(work, [Item(3)])
        except ValueError as e:
            print(e, type(e.__cause__).__name__)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        print(list(pool.map(work, [Item(4)])))
