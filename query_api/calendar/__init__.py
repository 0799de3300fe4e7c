"""Time: `cron.py` (cron expressions), `durations.py` (ISO 8601), `intervals.py` (calendar intervals), `sliding.py`
(sliding periods), `zones.py` (time zones), `period.py` and `json_times.py` (periods and times of records).
"""
