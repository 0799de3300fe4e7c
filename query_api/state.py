"""What handlers are given besides the request."""

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from shared.database import Pool

Database = NamedDependency[SkipValidation[Pool]]
"""A pool of connections: `database` for every request; `exports` for streams alone, which last as long as
their slowest reader."""
