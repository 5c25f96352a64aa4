"""Networks that read plans: they begin as the teacher, and without a plan they are ordinary networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from onedp.diffusion.samplers import OneStep
from onedp.diffusion.schedule import CosineDdpm
from onedp.export.export import export_policy
from onedp.nets.build import build_denoiser
from onedp.nets.config import DitConfig, ImageEncoderConfig, MlpConfig, UnetConfig
from onedp.nets.encoders_test import PICTURE, POSE, spec_of
from onedp.nets.prefix import start_as, with_plan, without_plan
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.policy_test import SPEC, inputs, make_policy
from onedp.types import Continuation

NETWORKS: dict[str, Any] = {
    "mlp": MlpConfig(width=16, blocks=1, step_embed_dim=8),
    "unet": UnetConfig(channels=(8, 16), step_embed_dim=8, kernel_size=3, n_groups=4),
    "dit": DitConfig(width=16, blocks=2, heads=2, step_embed_dim=8),
}


def student_policy(name: str) -> TorchPolicy:
    """Of random weights, those of the plan too."""
    torch.manual_seed(0)
    network = replace(NETWORKS[name], prefix=True)
    denoiser = build_denoiser(network, SPEC, CosineDdpm(), "eps").requires_grad_(False).eval()
    for parameter in denoiser.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    return replace(make_policy(OneStep(noise_scale=0.75)), network=network, denoiser=denoiser)


def plan(policy: TorchPolicy, rows: int, weight: float) -> Continuation:
    steps = policy.spec.chunk_length
    actions = np.random.default_rng(5).uniform(-1, 1, (rows, steps, policy.spec.action_dim)).astype(np.float32)
    return Continuation(actions, np.full((rows, steps), weight, dtype=np.float32))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_student_begins_as_its_teacher_whatever_is_planned(name):
    torch.manual_seed(0)
    teacher = build_denoiser(NETWORKS[name], SPEC, CosineDdpm(), "eps")
    for parameter in teacher.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    student = build_denoiser(replace(NETWORKS[name], prefix=True), SPEC, CosineDdpm(), "x0")
    start_as(student, teacher)
    x, t, cond = torch.randn(3, *teacher.chunk_shape), torch.tensor([5, 50, 90]), torch.randn(3, 8)
    expected = teacher.x0(x, t, cond)
    planned = with_plan(cond, torch.randn_like(x), torch.rand(3, teacher.chunk_shape[0]))
    torch.testing.assert_close(student.x0(x, t, cond), expected)
    torch.testing.assert_close(student.x0(x, t, planned), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_plans_are_read_and_without_one_the_network_is_an_ordinary_one(tmp_path, name):
    save_policy(tmp_path / "policy", student_policy(name))
    policy = load_policy(tmp_path / "policy")
    assert policy.reads_plans
    obs, noise = inputs(policy)
    free = policy.infer(obs, noise)
    drawn = policy.infer_continuing(obs, noise, plan(policy, len(noise), 1.0))
    assert np.abs(drawn - free).max() > 0.01
    np.testing.assert_allclose(policy.infer_continuing(obs, noise, plan(policy, len(noise), 0.0)), free, atol=1e-6)
    plain = policy.plain()
    assert not plain.reads_plans
    assert plain.network == NETWORKS[name]
    np.testing.assert_allclose(plain.infer(obs, noise), free, atol=1e-5)
    manifest = export_policy(tmp_path / "policy", "onnx", tmp_path / "out")  # its parity check compares both
    assert manifest.parameters == sum(p.numel() for p in plain.denoiser.parameters())


def test_encoders_of_pictures_keep_their_weights():
    """They have a backbone of their own."""
    encoder, spec = ImageEncoderConfig(backbone="light", keypoints=4), spec_of(PICTURE, POSE)
    wide, plain, teacher = (
        build_denoiser(replace(NETWORKS["mlp"], prefix=prefix), spec, CosineDdpm(), "eps", encoder).eval()
        for prefix in (True, False, False)
    )
    start_as(wide, teacher)
    without_plan(wide, plain)
    for key, value in teacher.state_dict().items():
        torch.testing.assert_close(plain.state_dict()[key], value, msg=key)
