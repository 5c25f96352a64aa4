"""Put a trained policy into the package: weights rounded to fp16, provenance as it is.

python scripts/ship.py RUN --name pusht-keypoints-ddpm
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from onedp.policy import load_policy, save_policy

SHIPPED = Path(__file__).resolve().parents[1] / "src/onedp/shipped"


@dataclass(frozen=True)
class Options:
    """What to ship."""

    run: tyro.conf.Positional[Path]
    name: str


if __name__ == "__main__":
    options = tyro.cli(Options)
    digest = save_policy(SHIPPED / options.name, load_policy(options.run), dtype="float16")
    print(f"{options.name}: {digest}")
