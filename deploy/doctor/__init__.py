"""`devicestat doctor`: checks of settings, database, schema and broker.

- `database` checks the server, the schema and the processes, and reports each ingestor's last commit and the dead
  letters. `shared/status/` has the checks that the API shows too. `servers` checks that one server takes writes.
- `blocks` checks the progress of sealing, what delays it, and some blocks.
- `cluster/` checks the nodes of a Citus cluster, if the database is distributed.
- `broker` checks the broker's `limits`, grants and waiting messages. `trials/` tests with its own messages how the
  broker queues and redelivers. `broker_connection` is the connection that both use.
- `broker_disk` checks the space for the broker's saves, and the age of the last save. `refused` explains why the broker
  refuses a login.
- `access` checks for an admin key, and compares the broker's users with the database.
- `ingestor` asks the running ingestor for its lag.
- `findings` writes the findings. `shared/status/findings.py` has the record that every check returns.

Each check reports only its own server. Only `access` uses two, and `servers` all that the database's URL names.
"""

import asyncio

from deploy.doctor.access import examine_access
from deploy.doctor.broker import examine_broker
from deploy.doctor.broker_disk import examine_broker_disk
from deploy.doctor.database import examine_database
from deploy.doctor.findings import report
from deploy.doctor.ingestor import examine_ingestor
from shared.settings import Settings
from shared.status.findings import Finding, Severity

__all__ = ["Finding", "Severity", "examine", "report"]


async def examine(settings: Settings) -> list[Finding]:
    """Run all checks concurrently; return the findings in the order of the output."""
    async with asyncio.TaskGroup() as group:
        parts = [
            group.create_task(examine_database(settings), name="database"),
            group.create_task(examine_broker(settings), name="broker"),
            group.create_task(examine_access(settings), name="access"),
            group.create_task(examine_ingestor(settings), name="ingestor"),
        ]
    disk = examine_broker_disk(settings)
    return [*(finding for part in parts for finding in part.result()), *disk]
