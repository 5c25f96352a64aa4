"""What a benchmark refuses before it trains anything: teachers that are none, samplers that a policy does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onedp.bench.contestants import Contestant
from onedp.bench.frame import Lab
from onedp.diffusion.sampler_table import check_sampler, parse_sampler
from onedp.diffusion.samplers import OneStep
from onedp.diffusion.schedule import CosineDdpm, Edm, Flow, Schedule
from onedp.errors import OneDPError
from onedp.methods.config import DenoisingConfig
from onedp.methods.table import METHODS, recipe
from onedp.policy import load_policy

SCHEDULES: dict[str, Schedule] = {"ddpm": CosineDdpm(), "edm": Edm(), "flow": Flow()}
OF_ONE_STEP = ("onedp", "regression", "going-on", "gaussian", "cloning", "act")
"""Kinds of methods whose policy answers at one noise level only."""


def check_teachers(
    contestants: Sequence[Contestant], teachers: Mapping[str, str], references: Mapping[str, str]
) -> None:
    """Raise ``OneDPError`` on the first teacher that is missing or cannot be what students are compared with.

    ``teachers``: process to a folder or the name of a shipped policy; ``references``: process to the sampler. A student
    in the place of its teacher could be distilled, and would be missed when the first student is compared.
    """
    for process in dict.fromkeys(each.process for each in contestants):
        if process not in teachers:
            of = ", ".join(each.text for each in contestants if each.process == process)
            raise OneDPError(
                f"{of}: there is no {process} teacher. Train one (for flow: onedp train --method flow-matching) and "
                f"name it with --teacher-{process}."
            )
        option = f"--teacher-{process} {teachers[process]}"
        kind = load_policy(teachers[process]).denoiser.schedule.kind
        if kind != process:
            raise OneDPError(f"{option}: its process is {kind}, not {process}.")
        try:
            load_policy(teachers[process], references[process])
        except OneDPError as error:
            raise OneDPError(f"{option}: {error}") from error


def check_samplers(contestants: Sequence[Contestant], lab: Lab) -> None:
    """Raise ``OneDPError`` on the first sampler that its policy could not act with once it is trained."""
    for contestant in contestants:
        if contestant.sampler is None:
            continue
        process = _process(contestant)
        own = lab.schedule(process) if contestant.needs_teacher else None
        schedule = SCHEDULES[process] if own is None else own
        try:
            sampler = parse_sampler(contestant.sampler, schedule)
            check_sampler(sampler, schedule)
        except OneDPError as error:
            raise OneDPError(f"{contestant.text}: {error}") from error
        if contestant.method is None or isinstance(sampler, OneStep):
            continue
        if METHODS[contestant.method].preset.config.kind in OF_ONE_STEP:
            raise OneDPError(
                f"{contestant.text}: {contestant.method} makes a policy of one step, which answers at one noise level "
                "only. Write @one-step, @one-step:LEVEL or @one-step:LEVEL:NOISE, or leave the sampler out."
            )


def _process(contestant: Contestant) -> str:
    """Noise process of the policy that acts: the teacher's, or its own where it has no teacher."""
    if contestant.needs_teacher:
        return contestant.process
    assert contestant.method is not None
    config = recipe(contestant.method, contestant.preset, contestant.process).config
    return config.process if isinstance(config, DenoisingConfig) else "flow"
