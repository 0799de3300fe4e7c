"""The worker: what `devicestat work` does besides the API.

One queued analysis:

1. `service.py` hears of it by a NOTIFY (or sees it at its next look at the queue) and claims it: `queue.py` has
   the SQL of a claim, its lease and its end.
2. `attempts.py` runs it: `shared/analysis.py` computes, `queue.finish` writes the result and ends the request
   in one statement, unless the lease was lost. A failure puts it back for later.
3. Meanwhile APScheduler, watched by `timetable.py`, has `service.py` prolong the lease, and take over what other
   workers have lost;
   `callbacks.py` makes the calls that were asked for, each by `webhook.py`;
   `ticks.py` queues what schedules ask for; `maintenance.py` makes the partitions of the coming months, and drops
   those that RETENTION lets go; `removal.py` removes what deleted devices have left; `cleaning/` deletes the rows
   that are past their retention.

`late_extents.py` widens extents for what an older version stores until it is restarted. `moved_clock.py` mends what a
clock that was ahead has put off. `metrics.py` is what Prometheus sees of it.
"""
