"""How fast this machine reads memory and multiplies, for the floor under a policy's latency. Torch-free.

Run as a module in a process of its own, because the number of threads of numpy's BLAS is fixed when it is loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np

from onedp.errors import OneDPError

READ_BYTES = 256 << 20
"""Larger than any cache: weights are read from memory when other processes use the cache too."""
MATRIX = 1024
REPEATS = 7


@dataclass(frozen=True)
class MachineSpeed:
    """Measured limits with a number of threads."""

    threads: int
    bytes_per_s: float
    flops_per_s: float

    def floor_ms(self, weight_bytes: int, flops: int, nfe: int) -> float:
        """Time [ms] to read the weights once a pass and to do the arithmetic of all passes."""
        return 1000 * (nfe * weight_bytes / self.bytes_per_s + flops / self.flops_per_s)


def measure_speed(threads: int) -> MachineSpeed:
    """Measure in a fresh process with so many threads; takes a second or two."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        env={**os.environ, **dict.fromkeys(names, str(threads))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OneDPError(f"The speed of this machine could not be measured: {done.stderr.strip()[-300:]}")
    return MachineSpeed(threads=threads, **json.loads(done.stdout))


def _main() -> None:
    data = np.ones(READ_BYTES // 4, dtype=np.float32)
    matrix = np.random.default_rng(0).random((MATRIX, MATRIX), dtype=np.float32)
    read = min(_seconds(lambda: data @ data) for _ in range(REPEATS))
    multiply = min(_seconds(lambda: matrix @ matrix) for _ in range(REPEATS))
    print(json.dumps({"bytes_per_s": READ_BYTES / read, "flops_per_s": 2 * MATRIX**3 / multiply}))


def _seconds(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


if __name__ == "__main__":
    _main()
