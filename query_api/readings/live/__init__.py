"""Readings as server-sent events while they are stored; `handlers.py` has the route.

`feeds.py` announces which devices this process needs, and is notified of their stored readings. `reader.py` reads them
over one connection. `listeners.py` has the listeners of a device, and the queue of each client.
`query_api/access/confirming.py` checks the listeners' keys every 0.4 s; without a valid check no event is sent.
"""
