"""What the package ships: trained policies, and observations from roll-outs of our own. Torch-free."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from onedp.artifact import read_manifest, resolve_artifact
from onedp.errors import OneDPError

_SHIPPED = Path(str(resources.files("onedp"))) / "shipped"

OBSERVATIONS = {"pusht-keypoints": "pusht_observations.npz", "pusht-state": "pusht_observations.npz"}
"""Task to file of recorded observations (raw arrays of the task, episodes on seeds below 100000)."""

LOST = {("pusht-keypoints", "ddpm"): "pusht_lost_observations.npz"}
"""Task and noise process of a teacher to the file of episodes that a student of the shipped one had lost, in states
that the observations above hardly have. What it does for others was not measured."""


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


def shipped_lost(teacher: str) -> Path | None:
    """File of shipped observations of lost episodes for ``teacher``; None where there is none."""
    manifest = read_manifest(resolve_artifact(teacher))
    name = LOST.get((manifest.task, manifest.process["kind"]))
    return None if name is None else _SHIPPED / name


def distillation_data(teacher: str, given: Path | None = None, lost: bool = True) -> tuple[Path, tuple[Path, ...]]:
    """Files that ``teacher`` is distilled on unless told otherwise: its observations, and what goes beside them.

    ``given``: the user's own, which stand alone. ``lost``: beside shipped ones also the shipped lost episodes, where
    there are any. Raises ``OneDPError`` when there are no observations.
    """
    if given is not None:
        return given, ()
    beside = shipped_lost(teacher) if lost else None
    return shipped_observations(teacher), () if beside is None else (beside,)
