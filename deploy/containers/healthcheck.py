"""`python -m deploy.containers.healthcheck`: the image's HEALTHCHECK, for any service.

The API, the ingestor and the worker listen on different ports. Each port that is open must answer, and one must be
open. /health/ready of the API requires a key while AUTH is on, so the check uses /health/live.
"""

import http.client
import os
import sys
from collections.abc import Mapping

from shared.settings import load

_HOST = "127.0.0.1"
_TIMEOUT_S = 4.0
_WELL = 200


def is_well(environ: Mapping[str, str]) -> bool:
    """Return whether a service listens here, and each that listens is healthy."""
    settings = load(environ)
    answers = [
        _status(settings.http_port, "/health/live"),
        _status(settings.ingestor_metrics_port, "/health/ready"),
        _status(settings.worker_metrics_port, "/health/ready"),
    ]
    listening = [status for status in answers if status is not None]
    return bool(listening) and all(status == _WELL for status in listening)


def _status(port: int, path: str) -> int | None:
    """Return the status of the response; 0 without a response; None if nothing listens."""
    connection = http.client.HTTPConnection(_HOST, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not is_well(os.environ))
