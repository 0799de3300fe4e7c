"""Tests of a broker with messages of their own.

`queue.py` tests how many messages the broker queues for an offline ingestor; `redelivery.py` how it redelivers, and
`promise.py` explains the result. Both tests share `trial.py`.
"""
