"""One network connection to the broker.

- `lifetime.py` opens it, keeps it alive, and reports the reason for its end.
- `connection.py` decodes bytes into packets with the `mqtt5` codec. `packets.py` and `publish.py` read a PUBLISH that
  the codec refuses.
- `requests.py` matches SUBACK and UNSUBACK to requests. `reasons.py` describes the reason codes.
"""
