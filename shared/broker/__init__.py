"""Who may do what on the broker: Mosquitto's dynamic security, kept as the database says (ADR 23).

A device that was registered, whose token was rotated or that was deleted:

1. `outbox.queue`, in the transaction that does it: a row says that the device has changed, not how;
2. `outbox.Outbox`, in the API and the worker: takes rows, one process at a time, for as long as it takes the broker;
3. `devices.bring`: looks up how the device is now (`present`), asks the broker what it knows of it, and has the
   difference (`differences`, pure) carried out;
4. `dynsec`: commands and answers over `$CONTROL/dynamic-security/v1`, whose words are in `records`.

Where BROKER_PASSWORDS is set, step 3 is `by_file.ByFile.bring`: it changes lines of the file (`password_file`,
pure), and waits until the broker has read it (ADR 37).

`permissions` says what each client may: a device, the ingestor, and whoever is neither. `sync` holds all of the broker
against all of the database, and `first_file` writes what a new broker begins with.
`data_directory` is another matter: the disk on which the broker saves.
"""
