"""The sizes of blocks, and which of their sorted values are kept apart as marks and guides.

Stored blocks are read by these rules: the positions of marks follow from a block's count alone. So a change of STANDARD
takes a migration that rebuilds the blocks.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Times = NDArray[np.int64]
"""Microseconds since 1970, in ascending order."""

MINI, BASE, TOP = 0, 1, 3
"""Levels. A mini block holds the newest readings of its device until they make up a base block. Blocks of a level above
BASE cover whole blocks of the level below."""
AXES = ("x", "y", "z")


class Layout(msgspec.Struct, frozen=True):
    """The sizes of blocks. Tests use small ones.

    `targets`: about how many readings a block of each level has. `marks`: the most intervals between the marks of an
    axis. `least_stride`: the least number of values from one mark to the next. `guide`: values from one guide to the
    next. `time_stride`: readings from one kept time of a base block to the next.
    """

    targets: tuple[int, int, int, int] = (1 << 10, 1 << 13, 1 << 18, 1 << 23)
    marks: int = 256
    least_stride: int = 32
    guide: int = 128
    time_stride: int = 256

    def strides(self, counts: Ints) -> Ints:
        """Return the number of values from one mark to the next, for blocks of these counts.

        It is least_stride times the least power of 2 that makes `marks` intervals enough.
        """
        factors = -(-counts // (self.least_stride * self.marks))
        return self.least_stride << np.frexp(factors - 1)[1].astype(np.int64)  # the bit length of factors - 1

    def mark_counts(self, counts: Ints) -> Ints:
        """Return the number of marks of an axis, for blocks of these counts: at most `marks` + 1."""
        strides = self.strides(counts)
        return (counts - 1) // strides + 1 + ((counts - 1) % strides > 0)

    def mark_positions(self, counts: Ints) -> Ints:
        """Return the positions of the marks in each block's sorted values, one block after the other.

        They are the multiples of the stride, and the last position.
        """
        numbers = self.mark_counts(counts)
        return np.minimum(spread(numbers) * np.repeat(self.strides(counts), numbers), np.repeat(counts - 1, numbers))


STANDARD = Layout()


def spread(counts: Ints) -> Ints:
    """Return 0, 1, … up to each count, one after the other: [2, 3] gives [0, 1, 0, 1, 2]."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
