"""The OpenAPI document (`document.py`) and its page (`page.py`)."""
