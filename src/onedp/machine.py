"""Facts about this machine and process, for provenance. Torch-free."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path


def cpu_name() -> str:
    """The processor's model name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command_line() -> str:
    """The command of this process, ready to paste; of absolute paths only the last part, so no machine is described."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv]
    return shlex.join([Path(words[0]).name, *words[1:]])
