"""Members of the cast from policy folders, shipped names and exports. Needs PyTorch; the rest of the room does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch

from onedp.diffusion.samplers import OneStep
from onedp.errors import OneDPError
from onedp.evaluate.opening import EvaluatedExport, open_policy
from onedp.evaluate.runner import latency_ms
from onedp.live.cast import Member
from onedp.policy import TorchPolicy
from onedp.types import Policy

MEASURING_S = 1.5
FEWEST_CALLS = 5
SAMPLERS = {
    "ddpm": ("ddpm:100", "ddim:10", "ddim:4", "ddim:1"),
    "edm": ("heun:18", "heun:10", "heun:4"),
    "flow": ("euler:10", "euler:4", "euler:1"),
}
"""Noise process of a teacher to the samplers that the page offers beside its own."""


def load_member(text: str, device: str = "cpu") -> Member:
    """``POLICY`` or ``POLICY@SAMPLER``, as everywhere; raises ``OneDPError`` when there is none or it has no task."""
    path, _, sampler = text.partition("@")
    torch.set_num_threads(1)  # lanes share the cores
    stored = open_policy(path, None, device)
    own = stored.with_sampler(sampler) if sampler and isinstance(stored, TorchPolicy) else stored
    if sampler and not isinstance(stored, TorchPolicy):
        own = open_policy(path, sampler, device)  # refuses any but its own
    if not own.task:
        raise OneDPError(f"{own.name} was imported without a task. Import it again with --task to see it here.")
    asked = own.sampler.label
    choices = [asked]
    if isinstance(stored, TorchPolicy):
        choices += [each for each in (stored.sampler.label, *_offered(stored)) if each not in choices]

    def open_with(label: str) -> Policy:
        if label == asked:
            return own
        return stored if label == stored.sampler.label else cast(TorchPolicy, stored).with_sampler(label)

    return Member(own.name, own.task, asked, tuple(choices), open_with, _measured)


def _offered(policy: TorchPolicy) -> Sequence[str]:
    """A student has learned one way to sample; a teacher can be sampled in many."""
    if isinstance(policy.sampler, OneStep):
        return ()
    schedule: Any = policy.denoiser.schedule
    return SAMPLERS.get(schedule.kind, ())


def _measured(policy: Policy, continuing: bool) -> list[float]:
    evaluated = cast("TorchPolicy | EvaluatedExport", policy)
    return [each / 1000 for each in latency_ms(evaluated, MEASURING_S, continuing, FEWEST_CALLS)]
