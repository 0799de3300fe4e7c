"""Decoding of payloads.

`decode.py` decodes a payload and lists the formats; `formats.py` is what a format has, `json_format.py` and
`message_pack.py` are the two. Long arrays become columns (`columns.py`). The result is `measurements.py`, or refusals,
which `explain.py` and `undecodable.py` put into words.
"""
