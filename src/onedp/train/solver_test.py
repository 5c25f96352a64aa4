"""The teacher's solver for a method's pairs."""

from __future__ import annotations

import pytest

from onedp.errors import OneDPError
from onedp.methods.config import DenoisingConfig
from onedp.methods.student_config import FINE_SAMPLERS, RegressionConfig
from onedp.policy import load_policy
from onedp.train.solver import solver


@pytest.mark.parametrize(
    ("teacher", "own", "fine"),
    [("pusht-keypoints-ddpm", "ddim:10", "ddim:20"), ("pusht-keypoints-edm", "heun:10", "heun:18")],
)
def test_fine_is_a_better_solver_of_the_teachers_process(teacher, own, fine):
    policy = load_policy(teacher)
    assert solver(policy, RegressionConfig()).label == own
    assert solver(policy, DenoisingConfig()).label == own
    named = solver(policy, RegressionConfig(regression_sampler="fine"))
    assert named.label == fine == FINE_SAMPLERS[policy.denoiser.schedule.kind]
    assert named.nfe > policy.sampler.nfe
    assert solver(policy, RegressionConfig(regression_sampler=fine)) == named


def test_a_solver_of_another_process_is_refused():
    with pytest.raises(OneDPError, match="heun:18"):
        solver(load_policy("pusht-keypoints-ddpm"), RegressionConfig(regression_sampler="heun:18"))
