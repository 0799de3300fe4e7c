"""`devicestat work` with a lease of seconds, so that a test need not wait for half a minute after each kill.

Run as `python -m tests.faults.brief_worker work`; all else is as it is.
"""

from datetime import timedelta

from deploy.cli.main import main
from query_api.queue import claims as queue
from query_api.worker import service, timetable

LEASE = timedelta(seconds=1.5)


if __name__ == "__main__":
    queue.LEASE = LEASE
    service.RENEW_S = LEASE.total_seconds() / 5
    service.SURVEY_S = 0.5
    timetable.JITTER_S = 0.1
    main()
