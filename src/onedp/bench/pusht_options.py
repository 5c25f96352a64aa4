"""What ``onedp bench pusht-keypoints`` is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onedp.bench.heldout_numbers import HeldoutSettings


@dataclass(frozen=True)
class PushTOptions:
    """What the benchmark of a simulated task stands on."""

    teachers: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {"ddpm": "pusht-keypoints-ddpm", "edm": "pusht-keypoints-edm"}
    )
    """Process to a trained policy: a folder or the name of a shipped one."""
    observations: Path | None = None
    """What is distilled on; None: the observations that the package ships."""
    lost: bool = True
    """Whether the shipped observations have the episodes beside them that a first student of the teacher lost, where
    there are any (``distillation_data``), as those of ``onedp distill``."""
    demonstrations: Path | None = None
    """What methods without a teacher are trained on."""
    mirror: bool = True
    """Whether those see the demonstrations' mirror images too, as the shipped teachers did."""
    episodes: int = 100
    first_seed: int = 200_000
    """First start. The default are tuning starts; report numbers on others."""
    workers: int | None = None
    ray: str | None = None
    heldout: HeldoutSettings = dataclasses.field(default_factory=HeldoutSettings)
