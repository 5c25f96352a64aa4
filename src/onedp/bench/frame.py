"""One command for every benchmark: train what is missing, examine, and collect rows. The task is a ``Lab``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onedp.bench.cells import UnfinishedError
from onedp.bench.contestants import Contestant
from onedp.errors import OneDPError
from onedp.methods.table import recipe

Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class Column:
    """One number of a row."""

    key: str
    heading: str
    meaning: str
    digits: int = 3
    plot: bool = False
    """Whether it has a plot of its own on the page."""
    interval: bool = False
    """Whether ``KEY_low`` and ``KEY_high`` are the ends of its 95 % interval, shown behind it; of seeds the means."""


@dataclass(frozen=True)
class Trained:
    """A policy on disk and what it cost."""

    folder: Path
    """The artifact."""
    digest: str
    """Of its weights."""
    numbers: Numbers
    """steps, wall_seconds, cpu_seconds, passes: of the training; None in what a foreign policy does not tell.
    teacher_cpu_seconds: what the teacher's training would have taken at the time of this one, where it was timed."""


@dataclass(frozen=True)
class Row:
    """A contestant at one budget: its numbers for each seed, or why there are none."""

    name: str
    contestant: str
    budget: float | None
    """Share of the teacher's training; None for the teacher itself."""
    seeds: tuple[int, ...]
    """Of training; none for the teacher, which all share."""
    numbers: tuple[Numbers, ...] = ()
    failure: str | None = None
    trained: Trained | None = field(default=None, repr=False)
    """Policy of the first seed."""
    sampler: str | None = None
    stage: str | None = None
    """What a policy that was kept on the way is, as "16 passes"; None for the result."""

    @property
    def line(self) -> str:
        """What it has in common with its other budgets."""
        return _named(self.contestant, self.stage)

    def values(self, key: str) -> list[float]:
        """The number of every seed that has it."""
        return [float(value) for each in self.numbers if (value := each.get(key)) is not None]

    def mean(self, key: str) -> float | None:
        """Over seeds."""
        values = self.values(key)
        return sum(values) / len(values) if values else None


class Lab(ABC):
    """A task of the benchmark: how to get policies, and what to ask them."""

    task: str
    columns: tuple[Column, ...]
    reference_sampler: Mapping[str, str]
    """Process to the sampler of the teacher that its students are compared with."""

    @abstractmethod
    def teacher(self, process: str) -> Trained:
        """The teacher of a process, trained once."""

    @abstractmethod
    def trained(self, contestant: Contestant, budget: float, seed: int) -> Trained:
        """The policy of a method, trained within ``budget`` of the teacher's training."""

    def stages(self, contestant: Contestant, budget: float, seed: int) -> Mapping[str, Trained]:
        """Policies that this training kept on the way (``MethodConfig.stages``), each with what had been spent."""
        return {}

    @abstractmethod
    def examined(self, trained: Trained, process: str, sampler: str | None) -> Numbers:
        """Everything measured of a policy but its latency; on the same observations or starts for all policies."""

    @abstractmethod
    def latencies(self, policies: Sequence[tuple[Trained, str | None]]) -> list[float]:
        """Median milliseconds of a chunk, batch 1, one thread; all take turns in this process."""

    def teacher_seconds(self, process: str) -> float | None:
        """Processor seconds of the teacher's training on this machine; None where it is trained here, and not known."""
        return None

    def schedule(self, process: str) -> Any:
        """Noise schedule of the teacher of a process; None: the default one of its kind."""
        return None

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What else results.json and the page say of the set-up."""

    def relative_cost(self, contestant: Contestant, trained: Trained) -> dict[str, float | None]:
        """The training's cost and its ratios to the teacher's: counted passes and seconds.

        A run that knows how many processor seconds the teacher would have taken beside it is compared with that.
        """
        teacher = dict(self.teacher(contestant.process).numbers)
        teacher["cpu_seconds"] = trained.numbers.get("teacher_cpu_seconds") or teacher.get("cpu_seconds")
        ratios: dict[str, float | None] = {}
        for key, name in (("passes", "passes_ratio"), ("cpu_seconds", "cpu_ratio"), ("wall_seconds", "wall_ratio")):
            mine, theirs = trained.numbers.get(key), teacher.get(key)
            ratios[name] = mine / theirs if mine is not None and theirs else None
        return {**trained.numbers, **ratios}


def collect_rows(
    lab: Lab, contestants: Sequence[Contestant], budgets: Sequence[float], seeds: Sequence[int]
) -> list[Row]:
    """Every contestant at every budget that applies to it; one that fails is a row that says why."""
    rows = []
    for contestant in contestants:
        if contestant.method is None:
            rows.append(_teacher_row(lab, contestant))
        elif not contestant.needs_teacher:
            rows += _method_rows(lab, contestant, 1.0, seeds)
        else:
            rows += [row for budget in budgets for row in _method_rows(lab, contestant, budget, seeds)]
    return rows


def with_latencies(lab: Lab, rows: Sequence[Row]) -> list[dict[str, float]]:
    """For each row its latency and rate; nothing for a row without a policy."""
    timed = [(row, (row.trained, row.sampler)) for row in rows if row.trained is not None]
    medians = iter(lab.latencies([policy for _, policy in timed]) if timed else ())
    found: list[dict[str, float]] = []
    for row in rows:
        if row.trained is None:
            found.append({})
            continue
        milliseconds = next(medians)
        found.append({"latency_ms_p50": milliseconds, "hz": 1000 / milliseconds})
    return found


def _teacher_row(lab: Lab, contestant: Contestant) -> Row:
    teacher = lab.teacher(contestant.process)
    name = f"teacher {contestant.text}"
    try:
        numbers = lab.examined(teacher, contestant.process, contestant.sampler)
    except UnfinishedError:
        return Row(name, contestant.text, None, ())
    except OneDPError as error:
        return Row(name, contestant.text, None, (), (), f"{type(error).__name__}: {error}")
    return Row(name, contestant.text, None, (), (numbers,), None, teacher, contestant.sampler)


def _method_rows(lab: Lab, contestant: Contestant, budget: float, seeds: Sequence[int]) -> list[Row]:
    """The result, behind what was kept on the way to it, which acts with samplers of its own only."""
    assert contestant.method is not None
    config = recipe(contestant.method, contestant.preset, contestant.process).config
    kept: Mapping[str, str] = {} if contestant.sampler else config.stages
    result = _method_row(lab, contestant, budget, seeds)
    if result.failure:
        return [result]
    return [*(_method_row(lab, contestant, budget, seeds, stage) for stage in kept.items()), result]


def _named(text: str, stage: str | None) -> str:
    return text if stage is None else f"{text} -> {stage}"


def _method_row(
    lab: Lab, contestant: Contestant, budget: float, seeds: Sequence[int], stage: tuple[str, str] | None = None
) -> Row:
    """``stage``: milestone and what it is; None: the result."""
    milestone, what = stage or (None, None)
    text = contestant.text
    name = f"{_named(text, what)}, {100 * budget:g} %"
    numbers: list[Numbers] = []
    finished: list[int] = []
    first: Trained | None = None
    try:
        for seed in seeds:
            try:
                trained = (
                    lab.trained(contestant, budget, seed)
                    if milestone is None
                    else lab.stages(contestant, budget, seed)[milestone]
                )
                examined = lab.examined(trained, contestant.process, contestant.sampler)
            except UnfinishedError:
                continue
            first = first or trained
            finished.append(seed)
            numbers.append({**lab.relative_cost(contestant, trained), **examined})
    except OneDPError as error:
        failure = f"{type(error).__name__}: {error}"
        return Row(name, text, budget, tuple(finished), tuple(numbers), failure, stage=what)
    return Row(name, text, budget, tuple(finished), tuple(numbers), None, first, contestant.sampler, what)
