"""The command line. `main.py` and `services.py` have the commands; `blocks.py`, `broker.py`, `dead_letters.py`,
`devices.py`, `keys.py` and `systemd.py` have subcommands."""
