"""``onedp latency``: how long a chunk takes, in every runtime that is installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Latency:
    """Time policies at batch 1 in every installed runtime and precision; distillation and runtime are told apart."""

    policies: tyro.conf.Positional[tuple[str, ...]]
    """POLICY, POLICY@SAMPLER (PyTorch, and exported on the spot for the other runtimes), or a folder of onedp export.
    The first is what the distillation factors refer to."""
    sampler: str | None = None
    """Sampler of every policy that names none; default: the one stored with it. An export has its own."""
    threads: tuple[int, ...] = (1,)
    """Numbers of threads."""
    runtimes: tuple[str, ...] = ("torch", "onnxruntime", "openvino")
    """Which runtimes; those that are not installed are left out."""
    precisions: tuple[str, ...] = ("fp32", "bf16", "int8")
    """Of policies that are exported on the spot. Reduced ones are timed without the gate of onedp export: how fast they
    would be, not whether they may be used. bf16 needs OpenVINO and a processor that has it, int8 one pass."""
    rounds: int = 100
    """Rounds after warm-up; in each every policy answers once in every runtime."""
    out: Path | None = None
    """Folder for latency.json, latency.svg, and every time that was taken, a file a row in recorded/: evaluate and
    live charge such a file with --latency FILE."""

    def run(self) -> None:
        """Measure, print, write."""
        import tempfile

        from onedp.cli.latency_table import print_latency
        from onedp.evaluate.latency import latency_json, latency_rows, measure, recorded_name
        from onedp.evaluate.machine_speed import measure_speed
        from onedp.files import require_writable, write_json, write_text
        from onedp.machine import command_line, cpu_name, usable_cores

        self._check()
        if self.out is not None:
            require_writable(self.out / "latency.json")
        with tempfile.TemporaryDirectory() as workspace:
            timed = [each for text in self.policies for each in self._timed(text, Path(workspace))]
            speeds = {threads: measure_speed(threads) for threads in self.threads}
            times_ms = measure(timed, self.rounds)
            rows = latency_rows(timed, times_ms, speeds)
        print_latency(rows, speeds)
        if self.out is not None:
            from onedp.report.latency_plot import latency_plot
            from onedp.runtime.latency import save_latencies

            facts = {"command": command_line(), "cpu": cpu_name(), "cores": usable_cores(), "rounds": self.rounds}
            write_json(self.out / "latency.json", latency_json(rows, speeds, facts))
            write_text(self.out / "latency.svg", latency_plot(rows))
            for earlier in (self.out / "recorded").glob("[0-9]*--*--*--*--*.json"):  # whatever else is there stays
                earlier.unlink()
            for number, (row, own) in enumerate(zip(rows, times_ms, strict=True), start=1):
                source = {"policy": row.label, "runtime": row.runtime, "precision": row.precision}
                path = self.out / "recorded" / recorded_name(number, row)
                save_latencies(path, [value / 1000 for value in own], {**source, "threads": row.threads})

    def _check(self) -> None:
        from onedp.backends.runtimes import RUNTIMES, check_threads, parse_precision
        from onedp.errors import OneDPError, unknown_choice

        if not self.policies:
            raise OneDPError("latency needs at least one policy, e.g.: onedp latency pusht-keypoints-onedp-s")
        known = ("torch", *RUNTIMES)
        for name in self.runtimes:
            if name not in known:
                raise OneDPError(unknown_choice("runtime", name, known))
        for name in self.precisions:
            parse_precision(name)
        if not self.threads:
            raise OneDPError("--threads is empty, expected numbers of 1 and more.")
        for count in self.threads:
            check_threads(count)

    def _timed(self, text: str, workspace: Path) -> list:
        from onedp.backends.manifest import is_export, require_own_sampler
        from onedp.backends.runtimes import parse_precision
        from onedp.errors import OneDPError
        from onedp.evaluate.latency import timed_export

        policy, _, sampler = text.partition("@")
        if is_export(Path(policy)):
            require_own_sampler(policy, sampler)
            found = [each for count in self.threads for each in timed_export(Path(policy), count, self.runtimes)]
            if not found:
                raise OneDPError(f"None of the runtimes {', '.join(self.runtimes)} is installed and reads {policy}.")
            return found
        from onedp.evaluate.latency_torch import timed_artifact

        precisions = tuple(dict.fromkeys(parse_precision(name) for name in self.precisions))
        return timed_artifact(policy, sampler or self.sampler, self.threads, self.runtimes, precisions, workspace)
