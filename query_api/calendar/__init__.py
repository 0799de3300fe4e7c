"""Time: `cron.py` (cron expressions), `intervals.py` (calendar intervals), `sliding.py` (sliding periods), `zones.py`
(time zones).
"""
