"""Runs in the environment of build_env.sh, where there is no onedp: what LeRobot's own policy answers.

    python act.py FOLDER inputs.npz answers.npz

``inputs.npz`` holds observations (N, To, ...) by LeRobot's names and noise (N, Tp, Da). The answers: ``chunks``, the
actions for each window of observations, and ``episode``, what ``select_action`` gives one by one at an episode's first
observation, as ``lerobot-eval`` calls it.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

import numpy as np
import torch
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.utils import populate_queues


def main(folder: str, inputs_file: str, answers_file: str) -> None:
    torch.set_num_threads(1)
    inputs = {name: torch.from_numpy(values) for name, values in np.load(inputs_file).items()}
    noise = inputs.pop("noise")
    policy = DiffusionPolicy.from_pretrained(folder, strict=True).eval()  # every weight has its place
    pre, post = make_pre_post_processors(policy.config, pretrained_path=folder)

    def step(i: int) -> dict[str, torch.Tensor]:
        normalised = pre({name: values[:, i] for name, values in inputs.items()})
        return {name: values for name, values in normalised.items() if name.startswith("observation.")}

    def with_pictures(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """As ``select_action`` stacks the cameras."""
        cameras = [batch[name] for name in policy.config.image_features]
        return batch | ({"observation.images": torch.stack(cameras, dim=-4)} if cameras else {})

    policy.reset()
    for i in range(policy.config.n_obs_steps):
        batch = with_pictures(step(i))
        policy._queues = populate_queues(policy._queues, batch)
    chunks = post(policy.predict_action_chunk(batch, noise=noise))
    policy.reset()
    first = step(0)
    episode = [post(policy.select_action(dict(first), noise=noise)) for _ in range(policy.config.n_action_steps)]
    np.savez(answers_file, chunks=chunks.numpy(), episode=torch.stack(episode, dim=1).numpy())

    packages = ("lerobot", "torch", "torchvision", "diffusers", "gym-pusht", "numpy")
    facts = {
        "versions": {name: version(name) for name in packages},
        "scheduler": type(policy.diffusion.noise_scheduler).__name__,
        "num_inference_steps": policy.diffusion.num_inference_steps,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
