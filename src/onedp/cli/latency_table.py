"""What ``onedp latency`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onedp.cli.console import make_console, make_table
from onedp.evaluate.latency import LatencyRow
from onedp.evaluate.machine_speed import MachineSpeed


def print_latency(rows: Sequence[LatencyRow], speeds: Mapping[int, MachineSpeed]) -> None:
    """The table, and what its floor and factors mean."""
    table = make_table(
        "Latency of one chunk [ms], batch 1", "policy", "runtime", "precision", ">threads", ">passes", ">p50", ">p95",
        ">p99", ">max", ">Hz", ">floor", ">p50 / floor", ">distillation", ">runtime",
    )  # fmt: skip
    table.columns[0].overflow = "fold"  # a name cut short could be another one's
    for row in rows:
        table.add_row(
            row.label, row.runtime, row.precision, str(row.threads), str(row.nfe),
            *(f"{x:.2f}" for x in (row.p50_ms, row.p95_ms, row.p99_ms, row.max_ms)),
            f"{row.hz:.0f}", f"{row.floor_ms:.2f}", f"{row.floor_ratio:.2f}",
            _factor(row.distillation_factor), _factor(row.runtime_factor),
        )  # fmt: skip
    console = make_console()
    console.print(table)
    for speed in speeds.values():
        console.print(
            f"measured with {speed.threads} thread(s): {speed.bytes_per_s / 1e9:.1f} GB/s, "
            f"{speed.flops_per_s / 1e9:.0f} GFLOP/s"
        )
    console.print(
        "floor: weights read once a pass plus arithmetic, at these speeds (cached weights can beat it)\n"
        f"distillation: {rows[0].label} over this policy, both in PyTorch; runtime: PyTorch over it, same policy"
    )


def _factor(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}x"
