"""The ingestor: a device's MQTT message becomes committed rows, and only then is it acknowledged.

The path of one reading:

1. `mqtt/` keeps the session with the broker and turns bytes into packets.
2. `collector.py` takes the packet. `delivery/` decides whether it is stored already, `payload/` decodes it, and
   `devices.py` finds the device of its topic. The readings fill a `batch.py`.
3. `storing/` writes the batch in one transaction: readings, dead letters, and the packet ids in the journal.
4. `collector.py` acknowledges the packets of the batch, in the order of receipt.

`scaling/` lets several ingestors share the work, `replay.py` stores dead letters again, `service.py` wires the
parts and stops them in order, `metrics.py` counts, `broker_disk.py` watches the broker's disk.
"""
