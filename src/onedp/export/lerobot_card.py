"""The model card of a policy that was exported to LeRobot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onedp.backends.manifest import ExportManifest
from onedp.evaluate.scores import Scores
from onedp.export.lerobot_features import Feature
from onedp.export.model_card import SAFETY_WARNINGS, measured_section, training_section

FRONT = """---
library_name: lerobot
pipeline_tag: robotics
tags:
- robotics
- lerobot
- diffusion
- one-step
---
"""
EVALUATE_PUSHT = """

On gym-pusht:

```
lerobot-eval --policy.path=FOLDER --env.type=pusht --env.obs_type=environment_state_agent_pos \\
  --eval.n_episodes=50 --eval.batch_size=10 --policy.device=cpu
```"""
NO_TUNING = """
- Do not fine-tune it as it is: LeRobot would train it as a policy of many denoising steps, which its weights are not
  (its noise level is folded into them). Train the teacher on, and distil again."""


def lerobot_card(
    manifest: ExportManifest,
    parity: Mapping[str, Any],
    results: Scores | None,
    features: Sequence[Feature],
    limit_note: str,
) -> str:
    """Markdown with the hub's front matter: what it is, trained on, measured, how to run it, what not to do."""
    what = (
        f"A policy for the task `{manifest.task}` as a stock `diffusion` policy of LeRobot that makes one network "
        f"pass a chunk (DDIM with one step): {manifest.parameters:,} weights, {manifest.precision}. LeRobot's "
        f"tools run it without a plugin. Exported from weights with the SHA-256 `{manifest.weights_digest}`."
    )
    sections = [
        FRONT + f"\n# {manifest.name}, for LeRobot",
        what,
        "## Inputs and outputs\n\n" + _fields(manifest, features) + (f"\n\n{limit_note}" if limit_note else ""),
        "## Trained on\n\n" + training_section(manifest.provenance),
        "## Measured\n\n" + measured_section(manifest, parity, results, "in LeRobot, where it runs"),
        "## How to run it\n\n" + _how(manifest),
        "## What not to do\n\n" + SAFETY_WARNINGS + NO_TUNING,
    ]
    return "\n\n".join(sections) + "\n"


def _fields(manifest: ExportManifest, features: Sequence[Feature]) -> str:
    rows = [
        f"| {each.name} | ({', '.join(map(str, each.shape))}) | "
        + ", then ".join(f"`{field.name}` [{'0 to 1' if field.is_image else field.unit}]" for field in each.fields)
        + " |"
        for each in features
    ]
    spec = manifest.spec
    limits = ", ".join(f"{low:g} to {high:g}" for low, high in zip(spec.action_low, spec.action_high, strict=True))
    rows.append(f"| action | ({spec.action_dim}) | [{spec.action.unit}], limits {limits} |")
    table = "\n".join(rows)
    return (
        f"| feature | shape | holds |\n|---|---|---|\n{table}\n\nControl rate {spec.rate_hz:g} Hz; "
        f"{spec.n_obs_steps} observations in, {spec.n_action_steps} actions executed of {spec.horizon} predicted."
    )


def _how(manifest: ExportManifest) -> str:
    text = """With LeRobot 0.4 or later, wherever it takes a policy (`--policy.path=FOLDER`), or:

```python
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.factory import make_pre_post_processors

policy = DiffusionPolicy.from_pretrained("FOLDER")
pre, post = make_pre_post_processors(policy.config, pretrained_path="FOLDER")
action = post(policy.select_action(pre(observation)))
```"""
    return text + (EVALUATE_PUSHT if manifest.task == "pusht-keypoints" else "")
