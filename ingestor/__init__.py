"""The ingestor stores MQTT messages as committed rows, and then acknowledges them.

The path of one reading:

1. `session/` keeps the session with the broker; `mqtt/` turns the bytes of one connection into packets.
2. `collector.py` takes the packet. `delivery/` decides whether it is stored already, `payload/` decodes it, and
   `devices.py` finds the device of its topic. The readings fill a `batch.py`.
3. `storing/` writes the batch in one transaction: readings, dead letters, and the packet ids in the journal.
4. `collector.py` acknowledges the packets of the batch, in the order of receipt.

`service.py` wires the parts and stops them in order. `draining.py` empties the session of a process that was removed.
`replay.py` processes dead letters again. `metrics.py` has the metrics, and
`status.py` makes figures of them for process_status.
"""
