"""Time: `cron.py` and `cron_words.py` (cron expressions, and their words), `durations.py` (ISO 8601), `intervals.py`
(calendar intervals), `sliding.py` (sliding periods), `zones.py` (time zones), `period.py` and `json_times.py` (periods
and times of records).
"""
