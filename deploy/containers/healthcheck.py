"""`python -m deploy.containers.healthcheck`: whether the service in this container is well; the image's HEALTHCHECK.

The API, the ingestor and the worker each listen on a port of their own: whichever does must answer, and one has to.
/health/ready of the API takes a key while AUTH is on; so it is asked whether it is live.
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
    """Whether one of the services listens here, and all that do are well."""
    settings = load(environ)
    answers = [
        _status(settings.http_port, "/health/live"),
        _status(settings.ingestor_metrics_port, "/health/ready"),
        _status(settings.worker_metrics_port, "/health/ready"),
    ]
    listening = [status for status in answers if status is not None]
    return bool(listening) and all(status == _WELL for status in listening)


def _status(port: int, path: str) -> int | None:
    """The answer's status, 0 where there is none; None where nobody listens."""
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
