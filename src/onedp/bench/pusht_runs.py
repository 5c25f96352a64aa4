"""Run folders of the benchmark of a simulated task: begun, continued, and what they kept on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onedp.artifact import read_manifest
from onedp.bench.cost import spent_by
from onedp.bench.frame import Trained
from onedp.policy import TorchPolicy, load_policy
from onedp.train.config import StudentRun, TeacherRun
from onedp.train.run import distill_student, resume_run, train_teacher


def begun(run: StudentRun | TeacherRun, folder: Path) -> TorchPolicy:
    """Train from the first step to the last."""
    policy = distill_student(run, folder) if isinstance(run, StudentRun) else train_teacher(run, folder)
    assert policy is not None  # it was not told to stop early
    return policy


def continued(run: StudentRun | TeacherRun, folder: Path) -> TorchPolicy:
    """From the newest checkpoint of a run that was stopped."""
    if (folder / "policy").exists():
        return load_policy(folder / "policy")
    policy = resume_run(folder, type(run).__name__)
    assert policy is not None
    return policy


def kept_stages(
    folder: Path, milestones: Iterable[str], cost: Mapping[str, Any], steps: int | None
) -> dict[str, Trained]:
    """The policies that a finished run of ``steps`` steps kept in ``folder/stages``, and what they had cost by then.

    ``cost``: of ``probe_cost``. Older runs do not say everything: None there. Raises ``OneDPError`` when a policy is
    not there.
    """
    told = {name: read_manifest(folder / "stages" / name).provenance for name in milestones}
    ends = {name: each.get("stage_step") for name, each in told.items()}
    spent = spent_by(cost, steps or 0, ends)
    return {
        name: Trained(
            folder / "stages" / name,
            str(each["weights_digest"]),
            {
                "steps": ends[name],
                "passes": spent[name],
                "cpu_seconds": each.get("cpu_seconds"),
                "wall_seconds": each.get("training_seconds"),
            },
        )
        for name, each in told.items()
    }
