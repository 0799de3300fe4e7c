"""`devicestat up`.

`up.py` starts everything: `postgres.py` and `mosquitto.py` are the embedded servers, `children.py` are child
processes, `supervisor.py` keeps them running, `leftovers.py` ends those of an `up` that was killed.
`mosquitto_log.py` explains lines of Mosquitto's log; `panel.py` prints where to look.
"""
