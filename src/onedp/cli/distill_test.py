"""What ``onedp distill`` does when it is told nothing but a teacher."""

from __future__ import annotations

from pathlib import Path

import pytest

from onedp.cli.distill import Distill
from onedp.methods.table import recipe


@pytest.mark.parametrize("process", ["ddpm", "edm"])
def test_the_recommended_recipe_of_the_teachers_process_is_the_default(process: str):
    options = Distill(teacher=f"pusht-keypoints-{process}", out=Path("student"))
    assert options.teacher_process() == process
    run = options.student_run(Path("data.npz"), process=options.teacher_process())
    assert run.method == recipe("onedp", process=process).config
    assert run.loop.steps == recipe("onedp").steps


def test_steps_and_the_paper_s_preset_apply_to_the_default():
    run = Distill(teacher="t", steps=240).student_run(Path("data.npz"), process="edm")
    assert run.method.regression_steps == 203  # type: ignore[attr-defined]  # a tenth of the recipe's
    assert (
        Distill(teacher="t", preset="paper").student_run(Path("data.npz")).method == recipe("onedp-s", "paper").config
    )
