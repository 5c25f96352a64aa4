"""Runs in an environment with LeRobot, where there is no onedp: its ``DiffusionPolicy`` trains a step when told to.

    python theirs.py CASE.json batch.npz FOLDER

Saves the untrained policy in FOLDER, says how many weights it has, then for each line on standard input takes one step
as LeRobot's ``update_policy`` does (loss, gradients, clipping, its own optimizer) and prints its seconds and the loss.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.factory import make_pre_post_processors


def configuration(case: dict) -> DiffusionConfig:
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (case["state"],))}
    if case["camera"]:
        inputs["observation.images.top"] = PolicyFeature(FeatureType.VISUAL, (3, *case["camera"]))
    else:
        inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (case["environment"],))
    return DiffusionConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (case["action"],))},
        down_dims=tuple(case["channels"]),
        crop_shape=tuple(case["crop"]) if case["camera"] else None,
        pretrained_backbone_weights=None,
        device="cpu",
    )


def statistics(config: DiffusionConfig) -> dict:
    """Any: both sides are given normalised numbers."""
    rows = {name: feature.shape for name, feature in (config.input_features | config.output_features).items()}
    ends = {"min": -1.0, "max": 1.0, "mean": 0.0, "std": 1.0}
    shapes = {name: (shape[0], 1, 1) if "images" in name else shape for name, shape in rows.items()}
    return {name: {end: torch.full(shape, value) for end, value in ends.items()} for name, shape in shapes.items()}


def main(case_file: str, batch_file: str, folder: str) -> None:
    case = json.loads(Path(case_file).read_text())
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    config = configuration(case)
    policy = DiffusionPolicy(config)
    policy.save_pretrained(folder)
    for processor in make_pre_post_processors(config, dataset_stats=statistics(config)):
        processor.save_pretrained(folder)
    policy.train()
    batch = {name: torch.from_numpy(values) for name, values in np.load(batch_file).items()}
    batch["action_is_pad"] = torch.zeros(batch["action"].shape[:2], dtype=torch.bool)
    preset = config.get_optimizer_preset()
    optimizer = preset.build(policy.get_optim_params())
    facts = {"weights": sum(parameter.numel() for parameter in policy.parameters()), "torch": torch.__version__}
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss, _ = policy.forward(dict(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), preset.grad_clip_norm, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
        value = loss.item()
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": value}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
