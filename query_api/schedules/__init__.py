"""Recurring analyses: `handlers.py` keeps them, as `fields.py` has them.

`timing.py` reads a schedule's words: `cron.py` says when it ticks, `sliding.py` over what period. The ticks themselves
are the worker's: `query_api/worker/ticks.py`.
"""
