"""Another name of `verdigris.green.select`."""

import sys

from verdigris.green import select

sys.modules[__name__] = select
