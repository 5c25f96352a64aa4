"""Put a trained policy into the package: weights rounded to fp16, provenance as it is.

python scripts/ship.py RUN --name pusht-keypoints-ddpm
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from onedp.diffusion.samplers import OneStep
from onedp.policy import load_policy, save_policy

SHIPPED = Path(__file__).resolve().parents[1] / "src/onedp/shipped"


@dataclass(frozen=True)
class Options:
    """What to ship."""

    run: tyro.conf.Positional[Path]
    name: str
    noise_scale: float | None = None
    """For a student: factor on its input noise when acting, chosen on tuning seeds (200000 and up)."""


if __name__ == "__main__":
    options = tyro.cli(Options)
    policy = load_policy(options.run)
    before = {"rounded_from": policy.provenance["weights_digest"]}  # what a student's provenance calls its teacher
    policy = replace(policy, provenance={**policy.provenance, **before})
    if options.noise_scale is not None:
        if not isinstance(policy.sampler, OneStep):
            raise SystemExit(f"{options.run} is no one-step student; it has the sampler {policy.sampler.label}.")
        sampler = replace(policy.sampler, noise_scale=options.noise_scale)
        provenance = {**policy.provenance, "acting_noise_scale_set_when_shipped": options.noise_scale}
        policy = replace(policy, sampler=sampler, provenance=provenance)
    digest = save_policy(SHIPPED / options.name, policy, dtype="float16")
    print(f"{options.name}: {digest}")
