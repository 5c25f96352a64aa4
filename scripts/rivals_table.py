"""Every policy of Push-T with keypoints at one table, on the same 500 test starts: results/pusht-bench/all.md.

    python scripts/rivals_table.py

Made of evaluations that are there, in whatever folder and from whatever day: teachers, students, methods without a
teacher. Of several training seeds the means, with the smallest and the largest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onedp.errors import OneDPError
from onedp.evaluate.comparison import load_results
from onedp.evaluate.results import BOOTSTRAP_SEED, EvaluationResult
from onedp.evaluate.statistics import paired_mean_difference
from onedp.files import write_text

RESULTS = Path(__file__).resolve().parents[1] / "results"
STARTS = range(100_000, 100_500)
REFERENCE = "Heun-18, x 1"
LOST = 0.8
"""Score below which an episode counts as lost."""
COMPUTED = {"episodes", "first_seed", "score_mean", "score_ci95", "success_rate", "success_ci95", "per_episode"}
"""Fields of an evaluation that follow from its episodes."""


@dataclass(frozen=True)
class Entry:
    """A row."""

    name: str
    teacher: str
    """Whose student it is; empty: nobody's."""
    noise: str
    """Factor on the noise that it acts with."""
    cost: str
    """Of its training, over that of the teacher whose budget it is measured by, in counted passes."""
    files: tuple[str, ...]
    """One a training seed, below results; with stars, as many as there are."""

    @property
    def key(self) -> str:
        """What tells rows apart."""
        return ", ".join(
            part for part in (self.name, self.teacher and f"of {self.teacher}", f"x {self.noise}", self.cost) if part
        )


def bench(slug: str, sampler: str = "own", folder: str = "") -> str:
    """Evaluations that ``onedp bench`` left, of all its seeds."""
    return f"pusht-bench/{folder}evaluations/evaluation-edm-{slug}-[0-9]-{12 * '?'}-{sampler}-{12 * '?'}.json"


def of_pusht(*names: str) -> tuple[str, ...]:
    """Rows of the page of all results."""
    return tuple(f"pusht-keypoints/{name}.json" for name in names)


THREE = "seeds/"
"""The part of scripts/measure_rivals.sh with three training seeds."""
ENTRIES = (
    Entry("DDPM-100", "", "1", "", of_pusht("pusht-keypoints-ddpm-ddpm100")),
    Entry("DDIM-20", "", "1", "", of_pusht("pusht-keypoints-ddpm-ddim20")),
    Entry("DDIM-10", "", "1", "", of_pusht("pusht-keypoints-ddpm-ddim10")),
    Entry("DDIM-10", "", "0.75", "", of_pusht("pusht-keypoints-ddpm-ddim10-x0.75")),
    Entry("DDIM-4", "", "1", "", of_pusht("pusht-keypoints-ddpm-ddim4")),
    Entry("DDIM-2", "", "1", "", of_pusht("pusht-keypoints-ddpm-ddim2")),
    Entry("DDIM-1", "", "1", "", of_pusht("pusht-keypoints-ddpm-ddim1")),
    Entry("Heun-18", "", "1", "", of_pusht("pusht-keypoints-edm-heun18")),
    Entry("Heun-10", "", "1", "", of_pusht("pusht-keypoints-edm-heun10")),
    Entry("Heun-10", "", "0.5", "", of_pusht("pusht-keypoints-edm-heun10-x0.5")),
    Entry("Heun-1", "", "1", "", of_pusht("pusht-keypoints-edm-heun1")),
    Entry(
        "`onedp`", "DDPM", "0.75", "25 %",
        ("short-budgets/rate-x-0.5-0.25-0-100000-2000.json", *of_pusht("onedp-1-own", "onedp-2-own")),
    ),
    Entry("`onedp --steps 4800`", "DDPM", "0.75", "50 %", of_pusht("onedp-half-*-own")),
    Entry("`onedp --steps 953`", "DDPM", "0.75", "10 %", ("short-budgets/rate-x-0.5-0.1-[0-9]-100000-2000.json",)),
    Entry(
        "regression alone, as `onedp --steps 953`", "DDPM", "0.75", "10 %",
        ("short-budgets/rate-x-0.5-regression-alone-0.1-[0-9]-100000-2000.json",),
    ),
    Entry("`onedp --steps 476`", "DDPM", "0.75", "5 %", of_pusht("onedp-twentieth-0-own")),
    Entry("`onedp --no-lost`, twice the regression's rate", "DDPM", "0.75", "25 %", of_pusht("s2400-*-own")),
    Entry("OneDP-S, shipped", "DDPM", "0.75", "13 %", of_pusht("pusht-keypoints-onedp-s-own")),
    Entry("OneDP-S, predicting x0", "DDPM", "0.75", "13 %", of_pusht("x0-student-own")),
    Entry("OneDP-D, shipped", "DDPM", "0", "8 %", of_pusht("pusht-keypoints-onedp-d-own")),
    Entry("the teacher asked once", "DDPM", "1", "0", of_pusht("pusht-keypoints-ddpm-one-step")),
    Entry("`onedp`", "EDM", "1", "30 %", of_pusht("edm-onedp-own")),
    Entry("`onedp`", "EDM", "0.5", "30 %", of_pusht("edm-onedp-half-noise")),
    Entry("`onedp`", "EDM", "1", "10 %", (bench("onedp"),)),
    Entry("OneDP-S, shipped", "EDM", "0.5", "15 %", of_pusht("pusht-keypoints-edm-onedp-s-own")),
    Entry("OneDP-S", "EDM", "0.75", "10 %", (bench("onedp-s", folder=THREE),)),
    Entry("OneDP-S with a critic", "EDM", "0.75", "10 %", (bench("onedp-s-adversarial"),)),
    Entry("OneDP-S, DMD's normalisation", "EDM", "0.75", "10 %", (bench("onedp-s-normalized"),)),
    Entry("OneDP-S, SiD's loss", "EDM", "0.75", "10 %", (bench("sid"),)),
    Entry("OneDP-S, the paper's rates", "EDM", "1", "10 %", (bench("onedp-s-paper", folder="variants/"),)),
    Entry("OneDP-S, `unet-small`", "EDM", "0.75", "10 %", (bench("onedp-s-unet-small", folder="variants/"),)),
    Entry("OneDP-S, `mlp`", "EDM", "0.75", "10 %", (bench("onedp-s-mlp", folder="variants/"),)),
    Entry("OneDP-D", "EDM", "0", "10 %", (bench("onedp-d"),)),
    Entry("OneDP-D, annealed", "EDM", "0", "10 %", (bench("onedp-d-annealed", folder="variants/"),)),
    Entry("`regression`", "EDM", "0.75", "10 %", (bench("regression", folder=THREE),)),
    Entry("`regression-fine`", "EDM", "0.75", "10 %", (bench("regression-fine", folder=THREE),)),
    Entry("Consistency Policy", "EDM", "1", "10 %", (bench("consistency-policy", folder=THREE),)),
    Entry("Consistency Policy, 3 passes", "EDM", "1", "10 %", (bench("consistency-policy", "consistency-3", THREE),)),
    Entry("Consistency Policy", "EDM", "1", "45 %", (bench("consistency-policy", folder="converged/"),)),
    Entry("Consistency Policy, rate x 3", "EDM", "1", "10 %", ("pusht-bench/rates/cp-x3-0.json",)),
    Entry(
        "Consistency Policy, 3 passes", "EDM", "1", "45 %",
        (bench("consistency-policy", "consistency-3", "converged/"),),
    ),
    Entry("consistency distillation", "EDM", "1", "10 %", (bench("consistency"),)),
    *(
        Entry("Progressive Distillation", "EDM", "1", cost, (bench("progressive", f"euler-{passes}-own"),))
        for passes, cost in ((32, "4 %"), (16, "5 %"), (8, "6 %"), (4, "7 %"), (2, "8 %"))
    ),
    Entry("Progressive Distillation", "EDM", "1", "10 %", (bench("progressive"),)),
    Entry("Gaussian policy", "EDM", "1", "10 %", (bench("gaussian"),)),
    Entry(
        "flow matching", "", "1", "100 %",
        (bench("flow-matching", folder="without-teacher/"), "pusht-bench/flow-students/flow-[0-9].json"),
    ),
    Entry(
        "`onedp`", "flow", "0.75", "25 %",
        ("pusht-bench/flow-students/flow-onedp.json", "pusht-bench/flow-students/flow-onedp-[0-9].json"),
    ),
    Entry("`onedp --steps 640`", "flow", "0.75", "7 %", ("pusht-bench/flow-students/flow-student.json",)),
    Entry("MeanFlow", "", "1", "100 %", (bench("meanflow", folder="meanflow/"),)),
    Entry("MIP", "", "0", "100 %", (bench("mip", folder="without-teacher/"),)),
    Entry("cloning", "", "0", "100 %", (bench("cloning", folder="without-teacher/"),)),
    *(
        Entry(name, teacher, noise, cost, (f"pusht-bench/noise/{file}.json",))
        for name, teacher, noise, cost, file in (
            ("MeanFlow", "", "0.75", "100 %", "meanflow-x0.75"),
            ("Consistency Policy, 3 passes", "EDM", "0.5", "45 %", "cp-half-3-x0.5"),
            ("`regression-fine`", "EDM", "0.5", "10 %", "regression-fine-x0.5"),
        )
    ),
)  # fmt: skip
PAIRS = (
    ("OneDP-S, of EDM, x 0.75, 10 %", "`regression`, of EDM, x 0.75, 10 %"),
    ("OneDP-S, of EDM, x 0.75, 10 %", "`regression-fine`, of EDM, x 0.75, 10 %"),
    ("`regression-fine`, of EDM, x 0.75, 10 %", "`regression`, of EDM, x 0.75, 10 %"),
    ("Consistency Policy, 3 passes, of EDM, x 1, 10 %", "OneDP-S, of EDM, x 0.75, 10 %"),
    ("Consistency Policy, of EDM, x 1, 10 %", "OneDP-S, of EDM, x 0.75, 10 %"),
    ("Consistency Policy, rate x 3, of EDM, x 1, 10 %", "Consistency Policy, of EDM, x 1, 10 %"),
    ("Consistency Policy, 3 passes, of EDM, x 1, 45 %", "Consistency Policy, 3 passes, of EDM, x 1, 10 %"),
    ("Consistency Policy, of EDM, x 1, 45 %", "Consistency Policy, of EDM, x 1, 10 %"),
    ("Consistency Policy, of EDM, x 1, 45 %", "OneDP-S, of EDM, x 0.75, 10 %"),
    ("OneDP-S, the paper's rates, of EDM, x 1, 10 %", "OneDP-S, of EDM, x 0.75, 10 %"),
    ("MeanFlow, x 1, 100 %", "OneDP-S, of EDM, x 0.75, 10 %"),
    ("MeanFlow, x 1, 100 %", "`regression-fine`, of EDM, x 0.75, 10 %"),
    ("`onedp --steps 953`, of DDPM, x 0.75, 10 %", "regression alone, as `onedp --steps 953`, of DDPM, x 0.75, 10 %"),
    ("`onedp`, of DDPM, x 0.75, 25 %", "DDIM-10, x 0.75"),
    ("`onedp --steps 4800`, of DDPM, x 0.75, 50 %", "DDIM-10, x 0.75"),
    ("`onedp --steps 4800`, of DDPM, x 0.75, 50 %", "`onedp`, of DDPM, x 0.75, 25 %"),
    ("`onedp`, of flow, x 0.75, 25 %", "`onedp`, of DDPM, x 0.75, 25 %"),
    ("`onedp`, of flow, x 0.75, 25 %", "flow matching, x 1, 100 %"),
    ("flow matching, x 1, 100 %", "DDIM-10, x 0.75"),
    ("MeanFlow, x 1, 100 %", "`onedp`, of EDM, x 1, 30 %"),
    ("Consistency Policy, 3 passes, of EDM, x 1, 10 %", "`onedp`, of EDM, x 1, 10 %"),
    ("Consistency Policy, 3 passes, of EDM, x 1, 45 %", "`onedp`, of EDM, x 1, 30 %"),
    ("Consistency Policy, of EDM, x 1, 45 %", "`onedp`, of EDM, x 1, 30 %"),
    ("`onedp`, of flow, x 0.75, 25 %", "MeanFlow, x 0.75, 100 %"),
    ("MeanFlow, x 0.75, 100 %", "`onedp`, of DDPM, x 0.75, 25 %"),
    ("Consistency Policy, 3 passes, of EDM, x 0.5, 45 %", "`onedp`, of EDM, x 0.5, 30 %"),
    ("`regression-fine`, of EDM, x 0.5, 10 %", "OneDP-S, shipped, of EDM, x 0.5, 15 %"),
    ("MeanFlow, x 0.75, 100 %", "DDIM-10, x 0.75"),
    ("MeanFlow, x 0.75, 100 %", "MeanFlow, x 1, 100 %"),
    ("`onedp`, of EDM, x 0.5, 30 %", "Heun-10, x 0.5"),
)
"""Rows that are compared with each other: mostly with as much noise."""


def cut(result: EvaluationResult, count: int = len(STARTS)) -> EvaluationResult:
    """The first ``count`` of the starts; raises ``OneDPError`` where one is missing."""
    rows = tuple(row for row in result.per_episode if row.seed in range(STARTS.start, STARTS.start + count))
    if len(rows) != count:
        raise OneDPError(f"{result.label} has {len(rows)} of the first {count} starts.")
    given = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return EvaluationResult.from_episodes(rows, **{k: v for k, v in given.items() if k not in COMPUTED})


def results_of(entry: Entry) -> list[EvaluationResult]:
    """One a training seed; raises ``OneDPError`` where there is none."""
    paths = [path for pattern in entry.files for path in sorted(RESULTS.glob(pattern))]
    if not paths:
        raise OneDPError(f"{entry.name}: there is no {' or '.join(entry.files)} in {RESULTS}.")
    found: list[EvaluationResult] = []
    for path in paths:
        result = load_results(path)
        assert isinstance(result, EvaluationResult)
        said = factor_on_noise(result.sampler)
        if said is not None and f"{said:g}" != entry.noise:
            raise OneDPError(f"{entry.name}: {result.label} acts with its noise x {said:g}, not {entry.noise}.")
        found.append(result)
    return found


def factor_on_noise(label: str) -> float | None:
    """Of a sampler as written; None where it does not say, as MIP's (``consistency:2``, without noise)."""
    kind, *parts = label.split(":")
    if kind == "consistency":
        return float(parts[1]) if len(parts) > 1 else None
    return float(parts[1]) if len(parts) > 1 else 1.0


def over_seeds(values: Sequence[float], text: Callable[[float], str]) -> str:
    """Their mean, and smallest and largest where they differ when written."""
    ends = [text(min(values)), text(max(values))]
    return text(float(np.mean(values))) + (f" ({ends[0]} … {ends[1]})" if ends[0] != ends[1] else "")


def with_ends(values: Sequence[float], intervals: Sequence[tuple[float, float]], sign: str = "") -> str:
    """Mean over seeds, the means of the intervals' ends, smallest and largest."""
    mean, _, ends = over_seeds(values, lambda value: f"{value:{sign}.3f}").partition(" (")
    low, high = np.mean(intervals, axis=0)
    return f"{mean} [{low:{sign}.3f}, {high:{sign}.3f}]" + (f" ({ends}" if ends else "")


def differences(one: Sequence[EvaluationResult], other: Sequence[EvaluationResult]) -> list[str]:
    """Of score and success, each the mean over training seeds, paired by start."""
    cells = []
    for name in ("scores", "successes"):
        means = [np.mean([getattr(each, name) for each in seeds], axis=0) for seeds in (one, other)]
        found = paired_mean_difference(means[0], means[1], np.random.default_rng(BOOTSTRAP_SEED))
        cells.append(f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
    return cells


def pair(one: tuple[str, Sequence[EvaluationResult]], other: tuple[str, Sequence[EvaluationResult]]) -> str:
    """A row of the second table, on all starts that both have."""
    count = min(each.episodes for each in (*one[1], *other[1]))
    cells = differences(*([cut(each, count) for each in found] for _, found in (one, other)))
    return f"| {one[0]} | {other[0]} | {count:,} | {' | '.join(cells)} |"


def line(entry: Entry, found: Sequence[EvaluationResult], reference: EvaluationResult) -> str:
    """A row in Markdown."""
    lost = [float(np.mean(each.scores < LOST)) for each in found]
    cells = [
        entry.name,
        entry.teacher,
        str(found[0].nfe),
        entry.noise,
        entry.cost,
        str(len(found)),
        with_ends([each.score_mean for each in found], [each.score_ci95 for each in found]),
        with_ends([each.success_rate for each in found], [each.success_ci95 for each in found]),
        over_seeds(lost, lambda value: f"{100 * value:.1f} %"),
        *(["reference", ""] if found[0].label == reference.label else differences(found, [reference])),
    ]
    return f"| {' | '.join(cells)} |"


INTRODUCTION = """# Push-T with keypoints: every policy at one table

Made by `scripts/rivals_table.py` of the evaluations in this folder, in `../pusht-keypoints` and `../short-budgets`: the
same 500 test starts (seeds 100000 to 100499) for all, by success. Teachers: DDPM with 4.5 M weights, EDM and flow with
2.7 M. *Noise*: factor on the noise that a policy acts with, which decides more than the method how often it finishes;
compare rows of the same. *Cost*: training in counted passes over the teacher's (methods without a teacher: the EDM
teacher's), Consistency Policy's by [today's count](README.md). *Seeds*: of training; several: means of values and of
ends of intervals, smallest and largest. *Lost*: episodes with a score below 0.8. Differences are paired by start, of
several seeds of their means; the last columns are to Heun-18 of the EDM teacher. `onedp` of the DDPM teacher has lost
states beside its observations where nothing else is said; other documents give its rows, the shipped students' and the
teachers' with all of their 2,000 starts.

| policy | taught by | passes | noise | cost | seeds | score | success | lost | score - Heun-18 | success - Heun-18 |
|---|---|---|---|---|---|---|---|---|---|---|
"""


BETWEEN = """
## Between rows

| one | other | starts | score, one - other | success, one - other |
|---|---|---|---|---|"""


def table() -> str:
    """The whole document."""
    whole = {entry: results_of(entry) for entry in ENTRIES}
    rows = [(entry, [cut(each) for each in found]) for entry, found in whole.items()]
    by_key = {entry.key: (entry.key, found) for entry, found in whole.items()}
    assert len(by_key) == len(rows)
    (reference,) = (cut(each) for each in by_key[REFERENCE][1])
    rows.sort(key=lambda row: -float(np.mean([each.success_rate for each in row[1]])))
    pairs = [pair(by_key[one], by_key[other]) for one, other in PAIRS]
    return INTRODUCTION + "\n".join([*(line(entry, found, reference) for entry, found in rows), BETWEEN, *pairs]) + "\n"


if __name__ == "__main__":
    write_text(RESULTS / "pusht-bench/all.md", table())
