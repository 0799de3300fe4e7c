"""`devicestat work` with a lease of seconds, so that a test does not wait half a minute after each kill.

Run as `python -m tests.faults.brief_worker work`. Everything else is unchanged.
"""

from datetime import timedelta
from functools import partial

from deploy.cli.main import main
from query_api.worker import service
from query_api.worker.tuning import Tuning

LEASE = timedelta(seconds=1.5)
BRIEF = Tuning(lease=LEASE, renew_s=LEASE.total_seconds() / 5, survey_s=0.5, jitter_s=0.1)


if __name__ == "__main__":
    service.work = partial(service.work, tuning=BRIEF)  # type: ignore[assignment]
    main()
