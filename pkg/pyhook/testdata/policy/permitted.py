"""What the policy lets through, some of it on behalf of the library."""
from __future__ import annotations
import json, asyncio, logging, datetime, inspect, traceback, concurrent.futures, helper

datetime.datetime.strptime('2020', '%Y')
asyncio.run(asyncio.sleep(0))
open('/dev/null', 'w').close()
print(open(__file__).readline().strip())
print(open(helper.argv[1]).read())
with open(helper.argv[2] + '/made', 'w') as f:
    f.write('x')
unclosed = open(helper.argv[2] + '/unclosed', 'w')
unclosed.write('kept')
print(inspect.getsource(helper.f).strip())
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    print(pool.submit(lambda: 1).result())
    try:
        pool.submit(open, '/etc/passwd').result()
    except PermissionError as e:
        print(e)
