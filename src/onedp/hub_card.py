"""The model card of a policy folder that is pushed to the hub. Torch-free."""

from __future__ import annotations

from onedp.artifact import Manifest
from onedp.evaluate.scores import Scores
from onedp.export.model_card import SAFETY_WARNINGS, score_lines, training_section
from onedp.timing_table import timing_table


def hub_card(manifest: Manifest, repository: str, results: Scores | None = None) -> str:
    """Markdown with the hub's front matter: what it is, trained on, measured, how to run it, what not to do."""
    spec, sampler = manifest.spec, manifest.sampler.get("kind")
    fields = "\n".join(
        f"| {field.name} | ({', '.join(map(str, field.shape))}) | {field.unit} |" for field in spec.observations
    )
    limits = ", ".join(f"{low:g} to {high:g}" for low, high in zip(spec.action_low, spec.action_high, strict=True))
    measured = "\n".join(score_lines(results)) if results else "No scores were given when it was pushed."
    return f"""---
library_name: onedp
pipeline_tag: robotics
tags:
- robotics
- diffusion-policy
- onedp
---

# {repository}

A policy of onedp for the task `{manifest.task or "(none of onedp's)"}`: network `{manifest.network.get("kind")}`,
sampler `{sampler}`. Weights with the SHA-256 `{manifest.provenance.get("weights_digest")}`.

## Inputs and outputs

| field | shape | unit |
|---|---|---|
{fields}
| {spec.action.name} (output) | ({spec.action_dim}) | {spec.action.unit}, limits {limits} |

Control rate {spec.rate_hz:g} Hz.

```
{timing_table(spec)}
```

## Trained on

{training_section(manifest.provenance)}

## Measured

{measured}

## How to run it

```
pip install 'onedp[train,hub]'
onedp pull {repository} --out policy        # or hub:{repository} wherever a policy is asked for
onedp inspect policy
```

## What not to do

{SAFETY_WARNINGS}
"""
