"""The ingestor: a device's MQTT message becomes committed rows, and only then is it acknowledged.

The way of one reading:

1. `connection` reads the bytes of the network connection and finds the PUBLISH in them.
2. `session` keeps that connection: `connecting`, CONNECT, SUBSCRIBE, `keep_alive`, and all of it again when it breaks.
   `subscribing` is the exchange of SUBSCRIBE and UNSUBSCRIBE, `requests` its packet ids, `subscriptions` the memory of
   what the session is subscribed to. `subscription_check` tries it in silence, with a `probe`. `limits` says what
   the broker's CONNACK limits.
   `ending` says how a connection ended, `contention` whether another client takes our session.
   `reasons` says in words what a broker's refusal means, `receiver` what the session asks of who takes its messages.
3. `collector` takes the message: `decode` turns its payload into `measurements` or refusals, with `columns` for long
   arrays; `devices` knows the number of the topic's device, `journal` whether the packet is stored already. It fills
   a `batch`, which collects what is refused of each message in `refusals`.
4. `writer` has the batch stored, over a `database_connection` that waits for as long as the database is away.
   `store` does so in one transaction: rows through `shared.readings`, refusals through `shared.dead_letters`, as
   far as `sampling` keeps them, the packet ids in the `journal`. What only the database refuses, `isolate` finds.
5. `collector` acknowledges the batch's packets, in the order in which they came.

`replay` sends dead letters the same way once more. `processes` says how several ingestors share the work, and
`leaving` takes what waits for those that are gone.
`service` wires the parts and stops them in order; `metrics` holds the counts that must add up,
`broker_disk` the figures of the broker's disk.
"""
