"""The memory of a process."""

from pathlib import Path

KIB_IN_MB = 1_000_000 / 1024


def peak_mb(pid: int) -> float:
    """Return VmHWM of proc(5), the peak of the resident set."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) / KIB_IN_MB
