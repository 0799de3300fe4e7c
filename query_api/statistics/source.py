"""Where the readings of analyses come from."""

import msgspec


class Source(msgspec.Struct):
    """Numbers of analysed readings, which analyses add to. `rows`: readings that no block contains."""

    blocks: int = 0
    rows: int = 0

    def add(self, blocks: int, rows: int) -> None:
        """Add the readings of an analysis."""
        self.blocks += blocks
        self.rows += rows
