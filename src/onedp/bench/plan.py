"""What a benchmark is about to train, and how long that may take, said before it starts."""

from __future__ import annotations

from collections.abc import Sequence

from onedp.bench.contestants import Contestant
from onedp.bench.frame import Lab
from onedp.train.forecast import in_words


def plan(lab: Lab, contestants: Sequence[Contestant], budgets: Sequence[float], seeds: Sequence[int]) -> str | None:
    """One sentence; None where nothing is trained. Contestants that differ in the sampler alone share a training.

    The time is that of one thread: a budget is a share of the teacher's counted passes, whose seconds are those of its
    steps on this machine. A method whose passes cost more or less than its teacher's takes as much more or less.
    """
    shares: dict[str, float] = {}
    trainings = 0
    for process, needs_teacher in _methods(contestants):
        runs = [1.0] if not needs_teacher else list(budgets)
        shares[process] = shares.get(process, 0.0) + sum(runs) * len(seeds)
        trainings += len(runs) * len(seeds)
    if not trainings:
        return None
    seconds = [(share, lab.teacher_seconds(process)) for process, share in shares.items()]
    text = f"Plan: {trainings} training{'s' * (trainings > 1)} that cost {sum(shares.values()):.3g} times a teacher's"
    known = [share * each for share, each in seconds if each is not None]
    if len(known) == len(seconds):
        text += f", about {in_words(sum(known))} on one thread"
    return f"{text}; evaluation comes on top. What is finished already is not made again."


def _methods(contestants: Sequence[Contestant]) -> list[tuple[str, bool]]:
    """Noise process of each training, and whether it has a teacher."""
    found = {
        (each.process, each.method, each.preset, each.network): each.needs_teacher
        for each in contestants
        if each.method is not None
    }
    return [(process, needs_teacher) for (process, *_), needs_teacher in found.items()]
