"""Containers.

`first_start.py` makes secrets and certificates at the first start (`authority.py`, for the names of
`certificate_names.py`); `healthcheck.py` is the image's HEALTHCHECK. `mosquitto.closed.conf` and
`Caddyfile` configure the broker and the proxy.
"""
