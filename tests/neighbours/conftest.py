"""Tests with greenlet loaded. `tests/test_neighbours.py` runs them in processes of their own.

Once loaded greenlet stays, and changes what the frame tests see from CPython 3.12 on. Collecting a
test module imports it, so these are kept out of the usual collection.
"""

from __future__ import annotations

import os

collect_ignore_glob = [] if "VERDIGRIS_NEIGHBOURS" in os.environ else ["test_*.py"]
