"""One network connection to the broker.

- `lifetime.py` makes it, keeps it alive, and gives the reason for its end.
- `connection.py` turns bytes into packets with the `mqtt5` codec; `packets.py` and `publish.py` read what it refuses.
- `requests.py` matches SUBACK and UNSUBACK to requests; `reasons.py` has the reason codes in words.
"""
