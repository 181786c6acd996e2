"""`time`, green: `sleep`."""

import time as _original

from verdigris.green import _twin, _wait

REPLACED = {"sleep": _wait.sleep}

_twin.make(globals(), _original, REPLACED)
