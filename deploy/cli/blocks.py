"""The command `devicestat blocks check`; `query_api/statistics/blocks/checking/` does the work."""

from typing import TYPE_CHECKING

import click

from deploy.command import ask_schema
from shared.errors import LocalError

if TYPE_CHECKING:
    from shared.postgres.connections import Connection


@click.group()
def blocks() -> None:
    """Check sealed blocks of readings."""


@blocks.command()
@click.option("--device", "device_id", type=int, metavar="ID", help="Check one device. [default: all]")
@click.option("--mend", is_flag=True, help="Build wrong blocks anew.")
@click.pass_context
def check(ctx: click.Context, *, device_id: int | None, mend: bool) -> None:
    """Compare the sealed blocks with the readings that they are built of.

    Prints a line for each problem. The exit code is 1 if a problem was found. Safe to run beside the services, to
    interrupt, and to repeat. It reads all readings: a million in some seconds.
    """

    async def checking(connection: "Connection") -> int:
        return await _check(connection, device_id, mends=mend)

    problems = ask_schema(ctx, checking)
    if problems:
        ctx.exit(1)


async def _check(connection: "Connection", device_id: int | None, *, mends: bool) -> int:
    """Print the problems and a summary, and return the number of problems."""
    from deploy.terminal import Terminal
    from query_api.statistics.blocks.checking.device import Checker, devices_with_blocks
    from shared.status.words import counted

    devices = await devices_with_blocks(connection)
    if device_id is not None:
        if device_id not in devices:
            raise LocalError(f"device {device_id} does not exist, or none of its readings is sealed")
        devices = [device_id]
    terminal, checker, problems, wrong = Terminal(), Checker(connection, mends=mends), 0, 0
    with terminal.progress(len(devices), "checking") as advance:
        for device in devices:
            before = problems
            async for problem in checker.device(device):
                terminal.result(str(problem))
                problems += 1
            wrong += problems > before
            advance()
    terminal.say(_summary(counted(len(devices), "device"), counted(problems, "problem"), wrong, mends=mends))
    return problems


def _summary(checked: str, problems: str, wrong: int, *, mends: bool) -> str:
    if not wrong:
        return f"{checked} checked: no problems"
    advice = "mended" if mends else "`devicestat blocks check --mend` builds what is wrong anew"
    return f"{checked} checked: {problems} in {wrong:,} of them: {advice}"
