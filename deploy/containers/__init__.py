"""Containers.

`first_start.py` creates secrets and certificates at the first start, with `authority.py` and `certificate_names.py`.
`healthcheck.py` is the image's HEALTHCHECK. `mosquitto.closed.conf` and `Caddyfile` configure the broker and the proxy.
"""
