"""Decoding of payloads.

`decode.py` decodes a payload and lists the formats. `formats.py` defines a format; `json_format.py` and
`message_pack.py` are the two formats. `columns.py` decodes long arrays into columns. The results are defined in
`measurements.py`. `explain.py` and `undecodable.py` describe refusals; `refusals.py` collects those of one message.
`places.py` finds where in a payload they are.
"""
