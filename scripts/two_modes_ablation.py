"""What each lever of OneDP does on the synthetic task two-modes: one row a lever, several seeds, resumable.

    python scripts/two_modes_ablation.py --bench BENCH --out results/two-modes-ablation

``--bench`` is the output folder of ``onedp bench two-modes``: teachers and finished cells are shared with it. Every row
is the base recipe with one thing changed, at the same budget (counted network passes).
"""

from __future__ import annotations

import dataclasses
import datetime
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import tyro
from two_modes_levers import LEVERS
from wide_noise import WideNoiseLab

from onedp.bench.cells import UnfinishedError
from onedp.bench.contestants import Contestant
from onedp.bench.frame import Column, Row, Trained
from onedp.bench.output import markdown, results_json
from onedp.bench.two_modes_lab import TwoModesLab
from onedp.errors import OneDPError
from onedp.evaluate.runner import hardware
from onedp.files import write_json, write_text
from onedp.machine import command_line
from onedp.methods.config import MethodConfig
from onedp.nets.config import MlpConfig
from onedp.policy import load_policy

VALID_TARGET, SHARE_TARGET, DISTANCE_TARGET = 0.98, 0.03, 2.0


@dataclass(frozen=True)
class Options:
    """What to run."""

    bench: Path
    """Folder of ``onedp bench two-modes``."""
    out: Path
    """Where results.json and table.md go."""
    rows: tuple[str, ...] = ()
    """Levers by name; default: all."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""
    budget: float = 0.1
    """Share of the teacher's training, in counted passes."""
    only_finished: bool = False
    """Train nothing: write the table of what is there."""


class Lever(Protocol):
    """A recipe that differs from another in one thing."""

    @property
    def method(self) -> str: ...
    @property
    def process(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def network(self) -> MlpConfig | None: ...
    @property
    def noise_channels(self) -> int: ...
    @property
    def acting_noise(self) -> float | None: ...

    def config(self, steps: int) -> MethodConfig:
        """For a run of ``steps`` steps."""
        ...

    def sampler(self) -> str | None:
        """How it acts; None: as it was trained to."""
        ...


def main(levers: Mapping[str, Lever]) -> None:
    """The command line; errors end with exit code 2 and no traceback."""
    try:
        make_table(tyro.cli(Options), levers)
    except OneDPError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def make_table(options: Options, levers: Mapping[str, Lever]) -> None:
    """Run what is missing and write the table."""
    if unknown := sorted(set(options.rows) - set(levers)):
        raise OneDPError(f"There are no rows {unknown}; there are {sorted(levers)}.")
    lab = TwoModesLab(options.bench, make_missing=not options.only_finished)
    rows = [ablation_row(lab, name, levers[name], options) for name in options.rows or levers]
    if options.only_finished:
        rows = [row for row in rows if row.seeds]
    reference = {
        process: lab.examined(lab.teacher(process), process, lab.reference_sampler[process])
        for process in sorted({levers[row.contestant].process for row in rows})
    }
    facts = {
        "task": lab.task,
        "budget": options.budget,
        "recipes": {row.contestant: _plain(levers[row.contestant]) for row in rows},
        "references": reference,
        "command": command_line(),
        "hardware": hardware("cpu"),
        "date": datetime.date.today().isoformat(),
    }
    columns = [each for each in lab.columns if each.key not in ("nfe", "parameters", "latency_ms_p50")]
    columns.insert(0, Column("target", "Target met", "share of seeds that meet all three targets", 2))
    columns.append(Column("acting_noise", "Acting noise", "factor on the input noise when acting", 2))
    nothing: list[dict[str, float]] = [{} for _ in rows]
    write_json(options.out / "results.json", _plain(results_json(columns, rows, nothing, facts)))
    write_text(options.out / "table.md", markdown(columns, rows, nothing))
    print(markdown(columns, rows, nothing))


def ablation_row(lab: TwoModesLab, name: str, lever: Lever, options: Options) -> Row:
    """Train and examine one recipe with every seed."""
    if lever.noise_channels:
        lab = WideNoiseLab(options.bench, lever.noise_channels, lab.store.make_missing)
    contestant = Contestant(name, lever.process, lever.method, "small", None, lever.network)
    teacher = lab.teacher(lever.process)
    numbers: list[dict[str, float | None]] = []
    finished: list[int] = []
    for seed in options.seeds:
        try:
            reference = lab.examined(teacher, lever.process, lab.reference_sampler[lever.process])
            trained = lab.trained_by(contestant, lever.config, lever.batch_size, options.budget, seed)
            own = {**lab.relative_cost(contestant, trained), **lab.examined(trained, lever.process, lever.sampler())}
        except UnfinishedError:
            continue
        except OneDPError as error:
            return Row(name, name, options.budget, tuple(finished), tuple(numbers), str(error))
        finished.append(seed)
        numbers.append(
            {**own, "target": float(meets_target(own, reference)), "acting_noise": acting_noise(lever, trained)}
        )
        print(name, seed, {k: own[k] for k in ("valid", "share_error", "sliced_wasserstein", "cpu_ratio")}, flush=True)
    return Row(name, name, options.budget, tuple(finished), tuple(numbers))


def acting_noise(lever: Lever, trained: Trained) -> float:
    """Factor on the noise under which a policy was examined: the lever's, or what the policy learned."""
    if lever.acting_noise is not None:
        return lever.acting_noise
    return load_policy(trained.folder, lever.sampler()).sampler.noise_scale


def meets_target(own: Mapping[str, float | None], reference: Mapping[str, float | None]) -> bool:
    """The three targets on two-modes, against the teacher's reference sampler."""
    valid, error, distance = own["valid"], own["share_error"], own["sliced_wasserstein"]
    theirs = reference["sliced_wasserstein"]
    assert valid is not None
    assert error is not None
    assert distance is not None
    assert theirs is not None
    return valid >= VALID_TARGET and error <= SHARE_TARGET and distance <= DISTANCE_TARGET * theirs


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


if __name__ == "__main__":
    main(LEVERS)
