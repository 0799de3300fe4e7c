"""Which packets are stored, and which are acknowledged (ADR 34).

`deliveries.py` follows the packets of one connection: `acknowledgements.py` sends or holds back PUBACKs,
`packet_ids.py` learns how the broker allocates ids, `redelivery.py` decides which redelivered packets are stored,
by the `journal.py`. `backlog.py` bounds what is neither stored nor acknowledged.
"""
