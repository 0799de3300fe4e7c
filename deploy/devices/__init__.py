"""`devicestat devices import`: `imports.py` reads the CSV file and registers its devices through `api_client.py`."""
