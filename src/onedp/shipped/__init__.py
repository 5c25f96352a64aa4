"""What the package ships: trained policies, and observations from roll-outs of our own. Torch-free."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from onedp.artifact import read_manifest, resolve_artifact
from onedp.errors import OneDPError

_SHIPPED = Path(str(resources.files("onedp"))) / "shipped"

OBSERVATIONS = {"pusht-keypoints": "pusht_observations.npz", "pusht-state": "pusht_observations.npz"}
"""Task to file of recorded observations (raw arrays of the task, episodes on seeds below 100000)."""

LOST = dict.fromkeys(OBSERVATIONS, ("pusht_lost_observations.npz",))
"""Task to files of episodes that an earlier student lost, in states that the observations above hardly have."""


def shipped_observations(teacher: str) -> Path:
    """File of shipped observations for the task of ``teacher``; raises ``OneDPError`` when there are none."""
    task = read_manifest(resolve_artifact(teacher)).task
    if not task:
        raise OneDPError(
            f"{teacher} was imported without a task. Give recorded observations with the policy's own fields: --data."
        )
    if task not in OBSERVATIONS:
        raise OneDPError(
            f"The package ships no observations for the task '{task}' (only for {', '.join(sorted(OBSERVATIONS))}). "
            "Give your own with --data: the demonstrations the teacher was trained on will do."
        )
    return _SHIPPED / OBSERVATIONS[task]


def shipped_beside(teacher: str) -> tuple[Path, ...]:
    """Files of shipped observations that go beside ``shipped_observations`` of the task of ``teacher``."""
    return tuple(_SHIPPED / name for name in LOST.get(read_manifest(resolve_artifact(teacher)).task, ()))
