"""`devicestat simulate`: `devices.py` registers and runs them, `waveform.py` computes readings, `publisher.py`
publishes.
"""
