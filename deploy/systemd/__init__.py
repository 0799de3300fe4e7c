"""systemd units, and `files.py`, which installs them."""
