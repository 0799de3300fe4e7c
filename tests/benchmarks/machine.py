"""Description of the machine and the versions."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg

from deploy.local.mosquitto import executable
from deploy.local.postgres import EmbeddedPostgres
from tests.benchmarks.servers import file_system

_GIB = 1024**3
_DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")


def describe(postgres: EmbeddedPostgres) -> str:
    """Return lines with date, machine, versions, and durability of a commit."""
    with psycopg.connect(postgres.url) as connection:
        server = connection.info.server_version // 10_000
        durability = ", ".join(f"{name} {_setting(connection, name)}" for name in _DURABILITY)
    said = subprocess.run([executable(), "-h"], capture_output=True, text=True, check=False).stdout
    broker = said.splitlines()[0].removeprefix("mosquitto version ")
    memory = psutil.virtual_memory().total / _GIB
    kernel = ".".join(platform.release().split(".")[:2])
    system = f"{platform.system()} {kernel} {platform.machine()}"
    return "\n".join(
        (
            f"{datetime.now(UTC):%Y-%m-%d}: {psutil.cpu_count()} cores ({_cpu()}), {memory:.0f} GiB, {system}.",
            f"Python {platform.python_version()}, PostgreSQL {server}, Mosquitto {broker}.",
            f"PostgreSQL's data and Mosquitto's on {file_system(postgres.directory)}; {durability}.",
        )
    )


def _setting(connection: psycopg.Connection, name: str) -> str:
    (value,) = connection.execute("SELECT current_setting(%s)", (name,)).fetchone() or ("",)
    return str(value)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
