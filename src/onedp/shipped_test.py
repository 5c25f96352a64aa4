"""What the package ships: it loads, fits together and is small enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from onedp.policy import load_policy
from onedp.shipped import shipped_lost, shipped_observations
from onedp.tasks import get_task
from onedp.tasks.demonstrations import load_observations

SHIPPED = Path(__file__).parent / "shipped"
STUDENTS = {
    "pusht-keypoints-onedp-s": "pusht-keypoints-ddpm",
    "pusht-keypoints-onedp-d": "pusht-keypoints-ddpm",
    "pusht-keypoints-edm-onedp-s": "pusht-keypoints-edm",
}


@pytest.mark.parametrize(("student", "teacher"), STUDENTS.items())
def test_a_student_is_one_pass_and_names_the_teacher_that_is_shipped(student: str, teacher: str) -> None:
    policy, origin = load_policy(student), load_policy(teacher)
    assert policy.nfe == 1 < origin.nfe
    assert policy.provenance["teacher"]["weights_digest"] == origin.provenance["rounded_from"]
    assert policy.spec == origin.spec
    assert "onedp distill" in policy.provenance["command"]
    assert "onedp train" in origin.provenance["command"]
    cost = policy.provenance["training_seconds"] / origin.provenance["training_seconds"]
    assert cost <= 0.25  # of the teacher's training time, as promised


def test_weights_are_half_precision_and_40_megabytes_at_most() -> None:
    folders = {path.parent.name for path in SHIPPED.glob("*/weights.safetensors")}
    assert folders == {*STUDENTS, *STUDENTS.values()}
    assert sum(path.stat().st_size for path in SHIPPED.glob("*/weights.safetensors")) <= 40e6
    for name in folders:
        assert load_policy(name).provenance["weights_dtype"] == "float16"


def test_shipped_observations_fit_every_teacher() -> None:
    for teacher in set(STUDENTS.values()):
        policy = load_policy(teacher)
        episodes = load_observations(shipped_observations(teacher), get_task(policy.task))
        assert episodes.n_steps > 10_000
        if lost := shipped_lost(teacher):
            assert set(load_observations(lost, get_task(policy.task)).arrays) == set(episodes.arrays)
    assert [shipped_lost(f"pusht-keypoints-{process}") is None for process in ("ddpm", "edm")] == [False, True]
