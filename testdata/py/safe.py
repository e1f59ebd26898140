"""Computation and the standard library: nothing here is refused."""
import json
import math
import statistics

readings = [math.sin(i / 10) for i in range(200)]
summary = {
    "count": len(readings),
    "mean": round(statistics.fmean(readings), 6),
    "spread": round(statistics.pstdev(readings), 6),
}
print(json.dumps(summary, sort_keys=True))
