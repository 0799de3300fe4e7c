"""From the bytes of a payload to measurements.

`decode.py` decodes a payload, with the decoders of `formats.py`; long arrays become columns (`columns.py`). The
result is `measurements.py`, or refusals, which `explain.py` and `undecodable.py` put into words.
`refusals.py` collects the refusals of one message.
"""
