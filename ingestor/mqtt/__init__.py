"""One network connection to the broker.

- `connecting.py` makes it, `keep_alive.py` keeps it alive, `ending.py` says why it ended.
- `connection.py` turns bytes into packets with the `mqtt5` codec; `packets.py` and `publish.py` read what it refuses.
- `requests.py` matches SUBACK and UNSUBACK to requests; `reasons.py` has the reason codes in words.
"""
