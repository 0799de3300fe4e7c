"""`devicestat broker init`: `first_file.py` is the first dynamic-security file of a broker."""
