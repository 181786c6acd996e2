"""Another name of `verdigris.green.ssl`."""

import sys

from verdigris.green import ssl

sys.modules[__name__] = ssl
