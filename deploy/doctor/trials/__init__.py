"""Tests of a broker that send their own messages.

`queue.py` tests how many messages the broker queues for an offline ingestor; `redelivery.py` how it redelivers, and
`promise.py` explains the result. `trial.py` has code that both tests share.
"""
