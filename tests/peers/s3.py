"""moto's S3.

s3.py PORT

What concerns a key that begins with "slow" takes 0.3 s.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

s3 = DomainDispatcherApplication(create_backend_app)


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if "/slow" in environ["PATH_INFO"]:
        time.sleep(0.3)
    answer: Iterable[bytes] = s3(environ, start_response)
    return answer


run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)
