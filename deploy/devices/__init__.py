"""`devicestat devices import`: `imports.py` reads the CSV file, and registers its devices with `api_client.py`."""
