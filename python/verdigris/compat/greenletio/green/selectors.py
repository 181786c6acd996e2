"""Another name of `verdigris.green.selectors`."""

import sys

from verdigris.green import selectors

sys.modules[__name__] = selectors
