"""`devicestat up`.

`up.py` starts everything. `postgres.py` and `mosquitto.py` are the embedded servers, and `children.py` has child
processes. `supervisor.py` keeps them running, and `leftovers.py` ends those of an `up` that was killed.
`mosquitto_log.py` explains lines of Mosquitto's log, and `panel.py` prints the addresses.
"""
