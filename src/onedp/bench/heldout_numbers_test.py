"""What is read off one sampling: the estimates of all passes and the chunk before its clip, for every sampler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from onedp.bench.heldout_numbers import Sampling
from onedp.bench.lab import OBSERVATION
from onedp.bench.two_modes import SPEC
from onedp.data.normalize import fit_normalizer
from onedp.diffusion.few_step_samplers import Consistency, Euler
from onedp.diffusion.sampler_table import SAMPLERS, AnySampler
from onedp.diffusion.samplers import Ddim, Ddpm, Heun, OneStep
from onedp.diffusion.schedule import CosineDdpm, Edm, Flow, Schedule
from onedp.methods.cloning import ALL_NOISE
from onedp.nets.build import build_denoiser
from onedp.nets.config import MlpConfig
from onedp.policy import TorchPolicy

CASES: list[tuple[str, AnySampler]] = [
    ("ddpm", Ddim(4)),
    ("ddpm", Ddpm(5)),
    ("edm", Heun(3)),
    ("flow", Euler(4)),
    ("edm", Euler(3)),
    ("ddpm", Consistency((65.0, 20.0))),
    ("flow", Consistency((ALL_NOISE, 0.1), noise_scale=0.0)),  # as MIP acts: two passes, no noise
    ("ddpm", OneStep(65.0, 0.75, input_scale=0.25)),
    ("edm", OneStep(2.5, noise_scale=0.0)),
]
CLIPPED_AT_THE_END = [case for case in CASES if not isinstance(case[1], (Ddim, Consistency))]
PROCESSES: dict[str, tuple[Schedule, str]] = {
    "ddpm": (CosineDdpm(), "eps"),
    "edm": (Edm(), "edm"),
    "flow": (Flow(), "flow"),
}


def policy_of(process: str, sampler: AnySampler, gaussian: bool = False) -> TorchPolicy:
    """An untrained policy, whose chunks go beyond the range."""
    torch.manual_seed(0)
    network = MlpConfig(width=16, blocks=1, step_embed_dim=8, gaussian=gaussian)
    schedule, parameterization = PROCESSES[process]
    denoiser = build_denoiser(network, SPEC, schedule, "x0" if gaussian else parameterization)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.mul_(3.0)
    corners = np.array([[-1.0, -1.0], [1.0, 1.0]], np.float32)
    data = {OBSERVATION: corners, SPEC.action.name: corners}
    return TorchPolicy(
        name="untrained", spec=SPEC, task="", denoiser=denoiser.requires_grad_(False).eval(), sampler=sampler,
        normalizer=fit_normalizer(data, SPEC), network=network, provenance={}, device=torch.device("cpu"),
    )  # fmt: skip


OBS = {OBSERVATION: np.random.default_rng(0).uniform(-1, 1, (40, 1, 2)).astype(np.float32)}


def test_every_sampler_is_here():
    assert {sampler.kind for _, sampler in CASES} == set(SAMPLERS)


@pytest.mark.parametrize(("process", "sampler"), CASES, ids=str)
def test_the_last_estimate_is_the_chunk_before_the_clip(process, sampler):
    policy = policy_of(process, sampler)
    sampling = Sampling.of(policy, OBS, seed=0)
    assert len(sampling.estimates) == policy.nfe
    torch.testing.assert_close(sampling.estimates[-1].clamp(-1, 1), sampling.chunk, atol=1e-4, rtol=0)
    share = sampling.out_of_range(sampler.clip)
    assert share == pytest.approx(float((sampling.estimates[-1].abs() > 1).float().mean()))
    assert share is not None
    assert share > 0
    assert share == pytest.approx(float((sampling.chunk.abs() >= 1 - 1e-6).float().mean()), abs=1e-3)  # clipped ones
    assert "x0" not in vars(policy.denoiser)


@pytest.mark.parametrize(("process", "sampler"), CLIPPED_AT_THE_END, ids=str)
def test_where_only_the_chunk_is_clipped_it_is_what_comes_without_a_clip(process, sampler):
    clipped = Sampling.of(policy_of(process, sampler), OBS, seed=0)
    free = Sampling.of(policy_of(process, replace(sampler, clip=None)), OBS, seed=0)
    torch.testing.assert_close(clipped.estimates[-1], free.chunk, atol=1e-3, rtol=1e-4)
    assert clipped.out_of_range(1.0) == pytest.approx(float((free.chunk.abs() > 1).float().mean()), abs=1e-3)


def test_a_gaussian_policy_has_a_share_too():
    share = Sampling.of(policy_of("ddpm", OneStep(), gaussian=True), OBS, seed=0).out_of_range(1.0)
    assert share is not None
    assert 0 < share < 1


def test_without_a_clip_there_is_no_range():
    sampling = Sampling.of(policy_of("edm", replace(OneStep(2.5), clip=None)), OBS, seed=0)
    assert sampling.out_of_range(None) is None
