"""The command line. `main.py` has the commands; `broker.py`, `dead_letters.py`, `devices.py`, `keys.py` and
`systemd.py` have subcommands. `command.py` is shared by commands; `terminal.py` and `keys_table.py` format output.
"""
