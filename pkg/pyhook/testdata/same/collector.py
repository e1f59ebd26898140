import sys
print('gc' in sys.modules, sys.gettrace())
import gc
print(gc.isenabled(), gc.get_freeze_count(), gc.callbacks, gc.garbage, gc.__spec__.name, gc.__loader__.__name__)
needle = [object()]
print(any(o is globals() for o in gc.get_referrers(needle)), any(o is needle for o in gc.get_objects()))
out = open(1, 'w', closefd=False)
out.write('among the oldest objects\n')
gc.freeze()
gc.unfreeze()
