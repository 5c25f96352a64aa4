"""How often the T is in a corner in the observations the package ships, and in the episodes a student lost.

    python scripts/lost_corners.py

Writes results/lost-corners.json.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onedp.data.readers import open_recording
from onedp.files import write_json
from onedp.machine import command_line
from onedp.shipped import shipped_lost, shipped_observations
from onedp.tasks.pusht import WORKSPACE_PX

TEACHER = "pusht-keypoints-ddpm"
NEAR_PX = 120.0
"""A corner: the T's origin so near to a wall in both directions."""
RESULT = Path(__file__).resolve().parents[1] / "results/lost-corners.json"


def share_in_corners(recording: Path) -> dict[str, float | int]:
    """Of the steps in a file of raw states."""
    episodes = open_recording(recording).episodes(["state"])
    place = np.asarray(episodes.arrays["state"])[:, 2:4]
    near = (np.minimum(place, WORKSPACE_PX - place) < NEAR_PX).all(axis=1)
    return {"episodes": len(episodes), "steps": episodes.n_steps, "share_in_corners": round(float(near.mean()), 4)}


if __name__ == "__main__":
    lost = shipped_lost(TEACHER)
    assert lost is not None
    rows = {path.name: share_in_corners(path) for path in (shipped_observations(TEACHER), lost)}
    write_json(RESULT, {"command": command_line(), "near_px": NEAR_PX, "files": rows})
    print(rows)
