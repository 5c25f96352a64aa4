"""Four things, one at a time: which, that the policy is told, and that an expert brings each to its compartment."""

from __future__ import annotations

import numpy as np
import pytest

from onedp.collect import experts
from onedp.collect.episode import collect_episode
from onedp.tasks import get_task
from onedp.tasks.robosuite_anything import KINDS, AnythingEnvironment


@pytest.mark.slow
@pytest.mark.robosuite
def test_the_start_decides_the_thing_the_index_tells_it_and_each_is_brought_home() -> None:
    task, scripted = get_task("pnp-anything"), experts.get_expert("pnp-anything")
    env = task.make_env()
    assert isinstance(env, AnythingEnvironment)
    expert = scripted.make(env)
    first_of_kind: dict[int, int] = {}
    for seed in range(20):
        obs = env.reset(seed)
        kind = int(obs["object_kind"][0])
        first_of_kind.setdefault(kind, seed)
        body = env.simulator.objects[kind].root_body
        place = env.simulator.sim.data.body_xpos[env.simulator.sim.model.body_name2id(body)]
        np.testing.assert_allclose(obs["object"][7:10], place, atol=1e-6)
        assert env.step(np.zeros(7)).obs["object_kind"][0] == kind
    assert sorted(first_of_kind) == list(range(len(KINDS)))
    for kind, seed in first_of_kind.items():
        demonstration = collect_episode(task, scripted, env, expert, seed, 0.5)
        assert demonstration is not None, KINDS[kind]
        assert set(demonstration.observations["object_kind"].ravel()) == {kind}
