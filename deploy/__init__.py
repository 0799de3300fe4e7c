"""The `devicestat` command, and its deployment on one machine, in containers and under systemd.

- `cli/`: parses the command line, calls the other packages, and maps errors to exit codes. `command.py` has the
  functions that commands share; `terminal.py` formats output.
- `local/`: `devicestat up`, with embedded PostgreSQL and Mosquitto.
- `scaling/`: `devicestat ingest --processes N`.
- `doctor/`: `devicestat doctor`.
- `simulate/`, `dead_letters/`, `devices/`, `broker/`: the work of the commands of these names.
- `containers/`, `systemd/`: deployment, with `compose.yaml` and `Dockerfile`. `setup.sh` is `make setup`.

It may import every other package; none imports it.
"""
