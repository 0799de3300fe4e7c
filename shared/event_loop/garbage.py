"""Short garbage collections in a service that has many long-lived objects."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def frozen_objects() -> Iterator[None]:
    """Exclude the objects that exist now from garbage collections during the block.

    A full collection examines every object that is not excluded. With those of the application it holds the event loop
    for some 60 ms, and happens several times in a large request.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
