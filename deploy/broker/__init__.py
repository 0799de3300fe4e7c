"""`devicestat broker init`: `first_file.py` creates the initial dynamic security configuration of a broker."""
