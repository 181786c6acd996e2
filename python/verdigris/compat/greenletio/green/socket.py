"""Another name of `verdigris.green.socket`."""

import sys

from verdigris.green import socket

sys.modules[__name__] = socket
