"""systemd: the units of this folder, and `files.py`, which installs them."""
