"""The doc string."""
from __future__ import annotations
x: int = 1
print(__annotations__, __doc__)
