"""The worker: the process of `devicestat work`.

One queued analysis:

1. `service.py` is notified, or polls, and claims it (`query_api/queue/claiming.py`), together with others that should
   begin soon.
2. `analyses/` computes it with `query_api/statistics/analysis.py`, and writes the result, unless the lease was lost. A
   failed attempt is retried later.
3. `callbacks.py` calls the webhooks, each by `webhook.py`.

APScheduler runs the periodic jobs, monitored by `timetable.py`: leases, `ticks.py` (schedules), `maintenance/` and
`cleaning/`, `sealing.py` and `settling.py` (blocks of readings). `metrics.py` has the metrics, of which
`status.py` makes the figures that it reports, and `tuning.py` the intervals.
"""
