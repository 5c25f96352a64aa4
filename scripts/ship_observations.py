"""Put recorded Push-T observations into the package: the raw state of every step in float32, and nothing else.

    onedp record RUN --sampler ddim:10 --episodes 200 --first-seed 1000 --out recorded.hdf5
    python scripts/ship_observations.py recorded.hdf5

Lost episodes (``onedp record --lost-below``) go to ``--out src/onedp/shipped/pusht_lost_observations.npz``. Both
shipped files have the observation after each episode's last action too, and the first was made of the teacher before
its weights were rounded for shipping.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from onedp.data.readers import open_recording
from onedp.files import write_bytes

SHIPPED = Path(__file__).resolve().parents[1] / "src/onedp/shipped/pusht_observations.npz"


@dataclass(frozen=True)
class Options:
    """What to ship."""

    recording: tyro.conf.Positional[Path]
    """File of onedp record."""
    out: Path = SHIPPED


if __name__ == "__main__":
    options = tyro.cli(Options)
    episodes = open_recording(options.recording).episodes(["obs/state"])
    buffer = io.BytesIO()
    state = episodes.dense("obs/state").astype(np.float32)
    np.savez_compressed(buffer, state=state, episode_ends=episodes.ends)
    write_bytes(options.out, buffer.getvalue())
    print(f"{len(episodes)} episodes, {episodes.n_steps} steps, {options.out.stat().st_size / 1e6:.2f} MB")
