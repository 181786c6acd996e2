"""Another name of `verdigris.green.time`."""

import sys

from verdigris.green import time

sys.modules[__name__] = time
