"""Do students with noise, and with cameras, act in the real LeRobot as here? Random weights will do for that.

python benchmarks/lerobot_interop/untrained.py --env ENV --work DIR --json results/lerobot-interop-untrained.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interop import compared_actions

from onedp.data.normalize import fit_normalizer
from onedp.diffusion.samplers import OneStep
from onedp.diffusion.schedule import CosineDdpm
from onedp.export.lerobot import export_lerobot
from onedp.files import write_json
from onedp.machine import command_line
from onedp.nets.build import build_denoiser
from onedp.nets.config import EncoderConfig, ImageEncoderConfig, StateEncoderConfig, UnetConfig
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.types import FieldSpec, PolicySpec

STATE = FieldSpec("observation.state", (3,), "rad")
SCENE = FieldSpec("observation.environment_state", (4,), "m")
CAMERAS = tuple(FieldSpec(f"observation.images.{name}", (96, 112, 3), "1", "uint8") for name in ("top", "hand"))
CROP = (84, 84)
CASES: dict[str, tuple[tuple[FieldSpec, ...], EncoderConfig]] = {
    "states": ((STATE, SCENE), StateEncoderConfig()),
    "cameras with one encoder": ((CAMERAS[0], STATE, CAMERAS[1]), ImageEncoderConfig(crop=CROP, shared=True)),
    "cameras with their own": ((STATE, *CAMERAS), ImageEncoderConfig(norm="batch", crop=CROP)),
}
WINDOWS = 8


def untrained(fields: tuple[FieldSpec, ...], encoder: EncoderConfig, folder: Path) -> TorchPolicy:
    """A student that predicts x0 and reads its noise x 0.25 x 0.75, saved in ``folder``."""
    spec = PolicySpec(fields, FieldSpec("action", (2,), "1"), (-3.0, -3.0), (3.0, 3.0), rate_hz=10.0)
    rng = np.random.default_rng(0)
    arrays = {field.name: observations(field, rng, (50,)) for field in (*fields, spec.action)}
    torch.manual_seed(0)
    network = UnetConfig(channels=(32, 64, 128))
    denoiser = build_denoiser(network, spec, CosineDdpm(), "x0", encoder).requires_grad_(False).eval()
    for parameter in denoiser.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape))
    sampler = OneStep(65.0, noise_scale=0.75, input_scale=0.25)
    policy = TorchPolicy(
        folder.name,
        spec,
        "",
        denoiser,
        sampler,
        fit_normalizer(arrays, spec),
        network,
        {},
        torch.device("cpu"),
        encoder,
    )
    save_policy(folder, policy)
    return load_policy(folder)


def observations(field: FieldSpec, rng: np.random.Generator, before: tuple[int, ...]) -> np.ndarray:
    """Random values ``(*before, *shape)``."""
    if field.is_image:
        return rng.integers(0, 256, (*before, *field.shape), dtype=np.uint8)
    return rng.uniform(-1, 1, (*before, *field.shape)).astype(np.float32)


def compared(name: str, env: Path, work: Path) -> dict[str, Any]:
    """Export the case ``name`` and compare LeRobot's actions with ours."""
    fields, encoder = CASES[name]
    policy = untrained(fields, encoder, work / "policy")
    export_lerobot(work / "policy", work / "exported")
    rng = np.random.default_rng(1)
    obs = {field.name: observations(field, rng, (WINDOWS, policy.spec.n_obs_steps)) for field in fields}
    theirs = {
        field.name: np.moveaxis(obs[field.name], -1, -3).astype(np.float32) / 255 if field.is_image else obs[field.name]
        for field in fields
    }
    return compared_actions(policy, obs, theirs, work / "exported", env, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--env", "--work", "--json"):
        parser.add_argument(option, type=Path, required=True)
    options = parser.parse_args()
    cases = {name: compared(name, options.env, options.work / str(i)) for i, name in enumerate(CASES)}
    write_json(options.json, {"command": command_line(), "cases": cases})
    for name, case in cases.items():
        print(f"{name}: largest difference {case['largest_difference']:.1e}, spread {case['spread_of_actions']:.2f}")


if __name__ == "__main__":
    main()
