"""What training costs, counted: how many chunks pass through a network, whatever the machine is doing beside.

Budgets are shares of the teacher's training. Seconds would make the number of steps, and so every result, depend on
the load of the machine; passes do not. The seconds are measured all the same and reported.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from onedp.errors import OneDPError
from onedp.methods.config import MethodConfig
from onedp.methods.distillation import weights_are_held
from onedp.methods.method import Method
from onedp.nets.backbone import Backbone
from onedp.train.config import LoopConfig
from onedp.train.loop import make_accelerator, run_training
from onedp.train.state import TrainState
from onedp.train.windows import WindowTensors

FORWARD, THROUGH_FROZEN, FORWARD_BACKWARD = 1.0, 2.0, 3.0
"""A backward pass is two products of the forward pass's size, one where the weights are frozen."""
PROBE_STEPS, PROBE_BATCH = 60, 8
WARM_UP_STEPS, TIMED_STEPS = 2, 8


def count_version(config: MethodConfig) -> dict[str, int]:
    """What the identity of a counted cost says beside the config, where passes with held weights once counted three."""
    return {"held_weights": 2} if config.holds_weights else {}


@dataclass
class PassCounter:
    """Chunks through any backbone, each weighed by the backbone's weights, in units of ``weights`` weights."""

    total: float = 0.0

    def count(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """A forward hook for all modules."""
        if isinstance(module, Backbone) and isinstance(output, Tensor):
            learns = any(p.requires_grad for p in module.parameters()) and not weights_are_held()
            factor = FORWARD if not output.requires_grad else FORWARD_BACKWARD if learns else THROUGH_FROZEN
            self.total += factor * len(output) * sum(p.numel() for p in module.parameters())


@contextmanager
def counted_passes() -> Iterator[PassCounter]:
    """Count inside; networks that are no backbone of ours (encoders, heads) are not seen."""
    counter = PassCounter()
    handle = register_module_forward_hook(counter.count)
    try:
        yield counter
    finally:
        handle.remove()


def probe_cost(build: Callable[[int], Method], windows: WindowTensors, loop: LoopConfig) -> dict[str, Any]:
    """What a step costs in weights x chunks, counted on a run of ``PROBE_STEPS`` steps.

    ``step``: its mean, preparation included; ``preparation``: the part of it that is spent before the first step;
    ``stages``: milestone to the mean without preparation of the steps that end with it.

    ``build`` makes the method for a number of steps, its phases in proportion, so that the short run is a picture of
    the long one. Its batches are small, and what they cost is scaled up. Nothing of it is kept. Raises ``OneDPError``
    when nothing was counted.
    """
    never = PROBE_STEPS + 1
    short = replace(loop, steps=PROBE_STEPS, batch_size=PROBE_BATCH, diagnose_every=never, checkpoint_every=never)
    method = build(PROBE_STEPS)
    prepared: list[float] = []
    scale = loop.batch_size / PROBE_BATCH
    reached: list[tuple[int, float]] = []  # step and count at the milestones
    stages: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, counted_passes() as counter:
        prepare = method.prepare

        def counted_prepare(*arguments: Any) -> float:
            seconds = prepare(*arguments)
            prepared.append(counter.total)
            return seconds

        def at_milestone(name: str, state: TrainState) -> None:
            step, count = reached[-1] if reached else (0, prepared[0])
            stages[name] = scale * (counter.total - count) / (state.step - step)
            reached.append((state.step, counter.total))

        method.prepare = counted_prepare  # type: ignore[method-assign,assignment]
        method.diagnose = lambda *_: {}  # type: ignore[method-assign]  # not part of the training
        accelerator = make_accelerator(short, Path(folder))
        run_training(method, windows, short, Path(folder), {}, accelerator, at_milestone=at_milestone)
    if not counter.total:
        raise OneDPError(
            "No pass through a network was counted in this method's training, so no budget can be a share of it. "
            "Networks that are to be counted derive from onedp.nets.backbone.Backbone and are called in training."
        )
    (preparation,) = prepared
    updates = (counter.total - preparation) * scale
    step = (preparation + updates) / PROBE_STEPS
    return {"step": step, "preparation": preparation / PROBE_STEPS, "stages": stages}


def spent_by(cost: Mapping[str, Any], steps: int, ends: Mapping[str, int | None]) -> dict[str, float | None]:
    """Milestone to what a run of ``steps`` steps has cost by then, in weights x chunks.

    ``cost``: of ``probe_cost``; ``ends``: all milestones in order, and their steps. None where either does not know:
    costs that were counted, and policies that were kept, before there was this.
    """
    spent: dict[str, float | None] = {}
    total: float | None = cost["preparation"] * steps if "preparation" in cost else None
    last = 0
    for name, end in ends.items():
        total = None if total is None or end is None else total + cost["stages"][name] * (end - last)
        last = end or 0
        spent[name] = total
    return spent


def seconds_of_a_step(build: Callable[[int], Method], windows: WindowTensors, loop: LoopConfig) -> float:
    """Processor seconds of a training step of ``build``'s method; what a run costs but once is left out."""
    totals = []
    for steps in (WARM_UP_STEPS, WARM_UP_STEPS + TIMED_STEPS):
        never = steps + 1
        short = replace(loop, steps=steps, diagnose_every=never, checkpoint_every=never)
        method = build(steps)
        method.diagnose = lambda *_: {}  # type: ignore[method-assign]
        with tempfile.TemporaryDirectory() as folder:
            accelerator = make_accelerator(short, Path(folder))
            started = time.process_time()
            run_training(method, windows, short, Path(folder), {}, accelerator)
            totals.append(time.process_time() - started)
    return (totals[1] - totals[0]) / TIMED_STEPS


def steps_within(budget: float, teacher_cost: float, step_cost: float) -> int:
    """Steps that cost ``budget`` times the teacher's training; raises ``OneDPError`` when that is less than two.

    And when a cost is not positive: nothing can be a share of nothing.
    """
    if not (teacher_cost > 0 and step_cost > 0):
        raise OneDPError(
            f"The teacher's training was counted as {teacher_cost:g} passes and a step of this method as "
            f"{step_cost:g}; both must be above 0. Remove the cells teacher-... and cost-... and start again."
        )
    steps = int(budget * teacher_cost / step_cost)
    if steps < 2:
        raise OneDPError(
            f"{100 * budget:g} % of the teacher's training is worth {steps} steps of this method. Give more --budget."
        )
    return steps
