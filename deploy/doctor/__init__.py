"""`devicestat doctor`: whether settings, database, schema and broker are as the services need them.

- `database` looks at the server, the schema, when each ingestor last committed, and what was refused.
- `broker` looks at what the broker offers (`limits`) and grants, and what waits in it; `queue` tries how much it
  keeps for an ingestor that is away. `redelivery` tries how it delivers again, and `promise` says what that means.
  `trial` is what these two share, `broker_connection` how they talk to the broker.
- `broker_disk` looks at the space for the broker's saves, and at the last one; `refused` finds out why it refuses us.
- `access` looks for an admin key, and holds the broker's dynamic security against the database, where it is
  administered.
- `ingestor` asks the running one how far it is behind.
- `findings` is what they all return, and how it is shown.

None of them but `access` looks at another's server: each says its own, whatever the others have found.
"""

import asyncio

from deploy.doctor.access import examine_access
from deploy.doctor.broker import examine_broker
from deploy.doctor.broker_disk import examine_broker_disk
from deploy.doctor.database import examine_database
from deploy.doctor.findings import Finding, Severity, report
from deploy.doctor.ingestor import examine_ingestor
from shared.settings import Settings

__all__ = ["Finding", "Severity", "examine", "report"]


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which they are shown; all are looked at at once."""
    async with asyncio.TaskGroup() as group:
        parts = [
            group.create_task(examine_database(settings), name="database"),
            group.create_task(examine_broker(settings), name="broker"),
            group.create_task(examine_access(settings), name="access"),
            group.create_task(examine_ingestor(settings), name="ingestor"),
        ]
    disk = examine_broker_disk(settings)
    return [*(finding for part in parts for finding in part.result()), *disk]
