"""What handlers are given besides the request."""

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from shared.database import Pool

Database = NamedDependency[SkipValidation[Pool]]
"""The pool of connections of all requests."""
