"""Another name of `verdigris.green.threading`."""

import sys

from verdigris.green import threading

sys.modules[__name__] = threading
