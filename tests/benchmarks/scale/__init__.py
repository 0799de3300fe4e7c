"""Very many devices with 24 months of readings: lists, one device's rows, old timestamps, and a migration beside them.

- `data`: builds the data. SCALE_DEVICES=10000 sets the number of devices, by default 100,000; it has 200 times as
  many readings.
- `lists`: `GET /devices` and its search, against plain SQL.
- `rows`: the rows of a device that are one to a page of the table: export, series and removal.
- `index`: what the ids in the unique index would cost and save.
- `times`: batches of readings over 24 months, against batches of now.
- `migrating`: `devicestat migrate --roles` while readings are stored and read.
"""

from collections.abc import Iterator

from deploy.local.postgres import EmbeddedPostgres
from tests.benchmarks.pairs import Finding
from tests.benchmarks.scale import data, index, lists, migrating, rows, times


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Build the data, and measure all of it."""
    yield data.build(postgres.url)
    yield from lists.measure(postgres.url)
    yield from rows.measure(postgres)
    yield from index.measure(postgres.url)
    yield from times.measure(postgres.url)
    yield from migrating.measure(postgres.url)
