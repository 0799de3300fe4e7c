"""The delivery of packets: acknowledgements and redelivery (ADR 34).

`deliveries.py` follows the packets of one connection: `acknowledgements.py` sends or holds back PUBACKs,
`packet_ids.py` detects how the broker allocates ids, and `redelivery.py` decides with the `journal.py` which
redelivered packets are stored. `backlog.py` bounds the packets that are neither stored nor acknowledged.
"""
