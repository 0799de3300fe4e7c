"""What handlers are given besides the request."""

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from query_api.web.limits.turns import SlowReads
from shared.postgres.connections import Pool

Database = NamedDependency[SkipValidation[Pool]]
"""The connections for what is quick: one thing is read or changed."""
Slow = NamedDependency[SkipValidation[SlowReads]]
"""The connections for what may take long: figures of many readings, and lists."""
