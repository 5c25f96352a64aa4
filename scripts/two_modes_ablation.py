"""What each lever of OneDP does on the synthetic task two-modes: one row a lever, several seeds, resumable.

    python scripts/two_modes_ablation.py --bench BENCH --out results/two-modes-ablation

``--bench`` is the output folder of ``onedp bench two-modes``: teachers and finished cells are shared with it. Every row
is the base recipe with one thing changed, at the same budget (counted network passes).
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from onedp.bench.cells import UnfinishedError
from onedp.bench.contestants import Contestant
from onedp.bench.frame import Column, Row
from onedp.bench.output import markdown, results_json
from onedp.bench.two_modes_lab import TwoModesLab
from onedp.diffusion.samplers import DEFAULT_LEVELS
from onedp.errors import OneDPError
from onedp.evaluate.runner import hardware
from onedp.files import write_json, write_text
from onedp.machine import command_line
from onedp.methods.config import EmaConfig
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.presets import fitted
from onedp.methods.table import recipe

VALID_TARGET, SHARE_TARGET, DISTANCE_TARGET = 0.98, 0.03, 2.0


@dataclass(frozen=True)
class Recipe:
    """Preset small of OneDP-S with changes; what is counted in steps is given as a share, so it fits any budget."""

    process: str = "edm"
    batch_size: int = 128
    regression_share: float | None = None
    """Of all steps; None: the preset's (0.85)."""
    pairs_per_step: float | None = None
    """Teacher's ODE solutions, over all steps; None: the preset's (15.4)."""
    warmup_share: float | None = None
    """Of all steps; the tracker alone, between regression and matching. None: the preset's (0.04)."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Optimizer (generator, tracker, regression) to a factor on the preset's rate."""
    regression_warmup: int | None = None
    """Linear warm-up of the regression's rate [steps]; None: the preset's 50, or a twentieth of its steps."""
    acting_noise: float = 1.0
    """Factor on the input noise when acting."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of ``OneDpConfig``."""

    def config(self, steps: int) -> OneDpConfig:
        """For a run of ``steps`` steps."""
        config = fitted(recipe("onedp-s"), steps)
        assert isinstance(config, OneDpConfig)
        changes: dict[str, Any] = dict(self.options)
        if self.regression_share is not None:
            changes["regression_steps"] = int(self.regression_share * steps)
        if self.pairs_per_step is not None:
            changes["regression_pairs"] = int(self.pairs_per_step * steps)
        if self.warmup_share is not None:
            changes["tracker_warmup"] = int(self.warmup_share * steps)
        for name, factor in self.rates.items():
            optimizer = getattr(config, name)
            changes[name] = dataclasses.replace(optimizer, lr=factor * optimizer.lr)
        if self.regression_warmup is not None:
            optimizer = changes.get("regression", config.regression)
            changes["regression"] = dataclasses.replace(optimizer, warmup_steps=self.regression_warmup)
        return dataclasses.replace(config, **changes)

    def sampler(self) -> str:
        """How the student acts; the noise when acting is no matter of training."""
        level = self.options.get("initial_level", DEFAULT_LEVELS[self.process])
        return f"one-step:{level:g}:{self.acting_noise:g}"


def changed(base: Recipe, **changes: Any) -> Recipe:
    """``base`` with fields of the recipe or of the config replaced."""
    own = {entry.name for entry in dataclasses.fields(Recipe)}
    options = {**base.options, **{name: value for name, value in changes.items() if name not in own}}
    return dataclasses.replace(base, options=options, **{k: v for k, v in changes.items() if k in own})


BASE = Recipe()
MORE_MATCHING = changed(
    BASE,
    regression_share=0.55,
    pairs_per_step=8.0,
    regression_sampler="heun:5",
    rates={"generator": 5.0, "tracker": 5.0, "regression": 2.0},
    ema=EmaConfig(max_decay=0.98),
)
"""Cheaper and fewer pairs, a shorter regression, and the time saved for matching at higher rates."""
PRECISE = changed(BASE, pairs_per_step=7.7, regression_sampler="heun:18", rates={"regression": 3.0})
"""Half as many pairs, by a sampler that is twice as exact, and three times the rate."""
UNAIDED = changed(BASE, regression_share=0.0, warmup_share=0.1, pairs_per_step=0.0)
"""Distribution matching alone, as in the paper: the teacher's weights are where it starts."""
FASTER = {"generator": 5.0, "tracker": 5.0}
LEVERS: dict[str, Recipe] = {
    "base": BASE,
    "acting with noise x 0.75 (preset small)": changed(BASE, acting_noise=0.75),
    "acting with noise x 0.5": changed(BASE, acting_noise=0.5),
    "regression alone": changed(BASE, regression_share=0.99, warmup_share=0.0),
    "regression 50 % of the steps": changed(BASE, regression_share=0.5),
    "no regression": changed(BASE, regression_share=0.0, pairs_per_step=0.0),
    "half as many pairs": changed(BASE, pairs_per_step=7.7),
    "twice as many pairs": changed(BASE, pairs_per_step=30.8),
    "as many pairs by heun:5": changed(BASE, regression_sampler="heun:5"),
    "squared error": changed(BASE, regression_huber=None),
    "regression rate x 3": changed(BASE, rates={"regression": 3.0}),
    "no tracker warm-up": changed(BASE, warmup_share=0.0),
    "two tracker steps": changed(BASE, tracker_updates=2),
    "generator rate x 5": changed(BASE, rates={"generator": 5.0}),
    "tracker rate x 5": changed(BASE, rates={"tracker": 5.0}),
    "both matching rates x 5": changed(BASE, rates={"generator": 5.0, "tracker": 5.0}),
    "levels below 1": changed(BASE, level_high=1.0),
    "levels above 0.1": changed(BASE, level_low=0.1),
    "last weights, no average": changed(BASE, ema=None),
    "average over 50 steps": changed(BASE, ema=EmaConfig(max_decay=0.98)),
    "normalised gradient": changed(BASE, normalize_gradient=True),
    "whole input noise": changed(BASE, input_noise_scale=1.0),
    "input noise x 0.5": changed(BASE, input_noise_scale=0.5),
    "initial level 1": changed(BASE, initial_level=1.0),
    "initial level 10": changed(BASE, initial_level=10.0),
    "regression kept x 0.1": changed(BASE, regression_weight=0.1),
    "regression kept x 1": changed(BASE, regression_weight=1.0),
    "regression warm-up 50 steps": changed(BASE, regression_warmup=50),
    "annealed levels": changed(BASE, annealed=True),
    "Fisher divergence": changed(BASE, divergence="fisher"),
    "critic x 0.01": changed(BASE, adversarial_weight=0.01),
    "matching alone": UNAIDED,
    "matching alone, rates x 5": changed(UNAIDED, rates=FASTER),
    "matching alone, rates x 25": changed(UNAIDED, rates={"generator": 25.0, "tracker": 5.0}),
    "matching alone, rates x 5, normalised gradient": changed(UNAIDED, rates=FASTER, normalize_gradient=True),
    "matching alone, rates x 5, Fisher divergence": changed(UNAIDED, rates=FASTER, divergence="fisher"),
    "matching alone, rates x 5, critic x 0.01": changed(
        UNAIDED, rates=FASTER, pairs_per_step=3.85, adversarial_weight=0.01
    ),
    "batch 64": changed(BASE, batch_size=64),
    "more matching": MORE_MATCHING,
    "more matching, generator rate x 15": changed(MORE_MATCHING, rates={"generator": 15.0, "tracker": 5.0}),
    "more matching, batch 64": changed(MORE_MATCHING, batch_size=64),
    "half as many pairs, regression rate x 3": changed(BASE, pairs_per_step=7.7, rates={"regression": 3.0}),
    "DDPM teacher": changed(BASE, process="ddpm"),
    "precise": PRECISE,
    "precise, regression alone": changed(PRECISE, regression_share=0.99, warmup_share=0.0),
    "precise, regression rate x 5": changed(PRECISE, rates={"regression": 5.0}),
    "precise, regression rate x 10": changed(PRECISE, rates={"regression": 10.0}),
    "precise, a quarter of the pairs": changed(PRECISE, pairs_per_step=3.85),
    "precise, a tenth of the pairs": changed(PRECISE, pairs_per_step=1.54),
    "precise, batch 64": changed(PRECISE, batch_size=64),
    "precise, batch 64, regression alone": changed(PRECISE, batch_size=64, regression_share=0.99, warmup_share=0.0),
    "precise, input noise x 0.5": changed(PRECISE, input_noise_scale=0.5),
    "precise, acting with noise x 0.75": changed(PRECISE, acting_noise=0.75),
    "precise, Huber 0.005": changed(PRECISE, regression_huber=0.005),
    "precise, rate x 5, regression alone": changed(
        PRECISE, rates={"regression": 5.0}, regression_share=0.99, warmup_share=0.0
    ),
    "precise, rate x 10, regression alone": changed(
        PRECISE, rates={"regression": 10.0}, regression_share=0.99, warmup_share=0.0
    ),
    "precise, rate x 5, batch 64, regression alone": changed(
        PRECISE, rates={"regression": 5.0}, batch_size=64, regression_share=0.99, warmup_share=0.0
    ),
    "precise, rate x 5, a quarter of the pairs, regression alone": changed(
        PRECISE, rates={"regression": 5.0}, pairs_per_step=3.85, regression_share=0.99, warmup_share=0.0
    ),
    "precise, rate x 5, whole input noise, regression alone": changed(
        PRECISE, rates={"regression": 5.0}, input_noise_scale=1.0, regression_share=0.99, warmup_share=0.0
    ),
    "precise, DDPM teacher, ddim:20": changed(PRECISE, process="ddpm", regression_sampler="ddim:20"),
    "precise, DDPM teacher, ddim:50": changed(PRECISE, process="ddpm", regression_sampler="ddim:50"),
    "precise, DDPM teacher, ddim:50, rate x 5": changed(
        PRECISE, process="ddpm", regression_sampler="ddim:50", rates={"regression": 5.0}
    ),
    "precise, DDPM teacher, ddim:50, rate x 5, regression alone": changed(
        PRECISE,
        process="ddpm",
        regression_sampler="ddim:50",
        rates={"regression": 5.0},
        regression_share=0.99,
        warmup_share=0.0,
    ),
    "precise, DDPM teacher, ddim:50, rate x 5, x0 output": changed(
        PRECISE,
        process="ddpm",
        regression_sampler="ddim:50",
        rates={"regression": 5.0},
        parameterization="x0",
    ),
    "precise, DDPM teacher, ddim:50, rate x 5, level 90": changed(
        PRECISE, process="ddpm", regression_sampler="ddim:50", rates={"regression": 5.0}, initial_level=90
    ),
}


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


def main(options: Options) -> None:
    """Run what is missing and write the table."""
    lab = TwoModesLab(options.bench, make_missing=not options.only_finished)
    rows = [ablation_row(lab, name, LEVERS[name], options) for name in options.rows or LEVERS]
    if options.only_finished:
        rows = [row for row in rows if row.seeds]
    reference = {
        process: lab.examined(lab.teacher(process), process, lab.reference_sampler[process])
        for process in sorted({LEVERS[row.contestant].process for row in rows})
    }
    facts = {
        "task": lab.task,
        "budget": options.budget,
        "recipes": {row.contestant: dataclasses.asdict(LEVERS[row.contestant]) for row in rows},
        "references": reference,
        "command": command_line(),
        "hardware": hardware("cpu"),
        "date": datetime.date.today().isoformat(),
    }
    columns = [each for each in lab.columns if each.key not in ("nfe", "parameters", "latency_ms_p50")]
    columns.insert(0, Column("target", "Target met", "share of seeds that meet all three targets", 2))
    nothing: list[dict[str, float]] = [{} for _ in rows]
    write_json(options.out / "results.json", _plain(results_json(columns, rows, nothing, facts)))
    write_text(options.out / "table.md", markdown(columns, rows, nothing))
    print(markdown(columns, rows, nothing))


def ablation_row(lab: TwoModesLab, name: str, lever: Recipe, options: Options) -> Row:
    """Train and examine one recipe with every seed."""
    contestant = Contestant(f"{name}", lever.process, "onedp-s", "small", None)
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
        numbers.append({**own, "target": float(meets_target(own, reference))})
        print(name, seed, {k: own[k] for k in ("valid", "share_error", "sliced_wasserstein", "cpu_ratio")}, flush=True)
    return Row(name, name, options.budget, tuple(finished), tuple(numbers))


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
    main(tyro.cli(Options))
