"""Sealed blocks: exact figures of any number of readings, without reading all of them."""
