"""Evaluation on a toy environment and on Push-T: seeds, groups, workers, counting."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from onedp.diffusion.samplers import OneStep
from onedp.errors import OneDPError
from onedp.evaluate import counter_world_test, runner
from onedp.evaluate.counter_world_test import SPEC
from onedp.evaluate.results import EpisodeResult
from onedp.evaluate.rollout import Episode, groups_of, record_episode, rerun_episode, run_group, steps_of_group
from onedp.evaluate.runner import EvaluationRequest, count_passes, evaluate, latency_ms
from onedp.nets.config import MlpConfig
from onedp.policy import save_policy
from onedp.policy_test import make_policy
from onedp.tasks import PUSHT_KEYPOINTS


class Counter(counter_world_test.Counter):
    """Observes the seed, then the step, so that a test can follow every number."""

    def reset(self, seed):
        super().reset(seed)
        return {"x": np.array([seed], dtype=np.float32)}

    def step(self, action):
        return replace(super().step(action), obs={"x": np.array([self.t], dtype=np.float32)})


TASK = replace(counter_world_test.TASK, name="counter", make_env=Counter)


class Scripted:
    """Answers with what it saw, so a test can follow every number."""

    spec = SPEC
    nfe = 1
    noise_shape = (1, 4, 1)

    def __init__(self):
        self.calls = []

    def infer(self, obs, noise):
        self.calls.append((obs["x"].copy(), noise.copy()))
        return np.broadcast_to(noise[:, 0, :3], (len(noise), 3, 1)).astype(np.float32)


def test_observations_repeat_the_first_step_and_then_slide():
    policy = Scripted()
    run_group(policy, TASK, [Counter()], [4])
    windows = [obs[0, :, 0].tolist() for obs, _ in policy.calls]
    assert windows == [[4, 4], [1, 2], [3, 4], [5, 6]]


def test_the_batch_holds_the_running_episodes_and_each_ones_own_noise():
    policy = Scripted()
    run_group(policy, TASK, [Counter(), Counter(), Counter()], [7, 3, 10])  # over after 3, 6 and 6 steps
    assert [len(obs) for obs, _ in policy.calls] == [3, 3, 2]
    alone = Scripted()
    run_group(alone, TASK, [Counter()], [10])
    for chunk, row in enumerate((2, 2, 1)):
        np.testing.assert_array_equal(policy.calls[chunk][1][row], alone.calls[chunk][1][0])


def test_score_is_the_best_reward_and_episodes_end_by_goal_or_limit():
    policy = Scripted()
    rows = [rollout.result for rollout in run_group(policy, TASK, [Counter(), Counter()], [0, 6])]
    assert [row.steps for row in rows] == [3, 8]  # goal after 3; 9 would be needed, the limit is 8
    assert [row.success for row in rows] == [True, False]
    actions = np.concatenate([noise[0, 0, :2, 0] for _, noise in policy.calls])[:3]
    assert rows[0].score == pytest.approx(max(0.0, *np.cumsum(actions)), rel=1e-5)


class DependsOnTheBatch(Scripted):
    """Rounds otherwise for every batch size and row, as real kernels may; only worse."""

    def infer(self, obs, noise):
        rows = np.arange(len(noise), dtype=np.float32)[:, None, None]
        return super().infer(obs, noise) + 0.01 * rows + 0.1 * len(noise)


@pytest.mark.parametrize("seed", [100, 107, 109])
def test_an_episode_is_run_again_exactly_without_its_group(seed):
    seeds = list(range(100, 110))
    together = [each.result for each in run_group(DependsOnTheBatch(), TASK, [Counter() for _ in seeds], seeds)]
    again = rerun_episode(DependsOnTheBatch(), TASK, Counter(), seed, steps_of_group(together, seed))
    assert again == together[seed - 100]


def test_the_group_of_an_episode_is_found_among_all_rows():
    rows = [EpisodeResult(seed=seed, score=0.0, success=False, steps=seed) for seed in range(100, 160)]
    assert list(steps_of_group(rows, 124)) == list(range(100, 125))
    assert steps_of_group(rows, 155) == {seed: seed for seed in range(150, 160)}


def test_groups_cover_every_seed_once():
    groups = groups_of(100, 60)
    assert [len(group) for group in groups] == [25, 25, 10]
    assert [seed for group in groups for seed in group] == list(range(100, 160))


def test_recording_has_a_picture_a_step():
    rows = [rollout.result for rollout in run_group(Scripted(), TASK, [Counter() for _ in range(3)], [0, 1, 2])]
    recording = record_episode(Scripted(), TASK, 2, rows, size=8)
    assert len(recording.frames) == len(recording.scores) == 5
    assert [frame[0, 0, 0] for frame in recording.frames] == [1, 2, 3, 4, 5]
    assert recording.success


@pytest.fixture(scope="module")
def pusht_policy(tmp_path_factory):
    """An untrained one-step policy for Push-T: bad, but it moves things."""
    pytest.importorskip("gym_pusht")
    import torch

    from onedp.data.normalize import fit_normalizer
    from onedp.diffusion.schedule import CosineDdpm
    from onedp.nets.build import build_denoiser

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    spec, network = PUSHT_KEYPOINTS.spec, MlpConfig(width=16, blocks=1)
    fields = (*spec.observations, spec.action)
    arrays = {field.name: rng.uniform(0, 512, (100, *field.shape)).astype(np.float32) for field in fields}
    policy = replace(
        make_policy(OneStep(30.0)),
        spec=spec,
        denoiser=build_denoiser(network, spec, CosineDdpm(), "eps").eval(),
        network=network,
        normalizer=fit_normalizer(arrays, spec),
    )
    folder = tmp_path_factory.mktemp("policy") / "untrained"
    save_policy(folder, policy)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "timed",
    [{}, {"task": "pusht-drift@speed=30,limit=4", "executor": "rtc", "noise": "warm", "latency": "recorded.json"}],
    ids=["frozen", "charged"],
)
def test_scores_do_not_depend_on_the_number_of_workers(pusht_policy, tmp_path, monkeypatch, timed):
    monkeypatch.chdir(tmp_path)
    recorded = {"format": "onedp.latency-histogram/1", "latencies_s": [0.02, 0.05, 0.3]}
    (tmp_path / "recorded.json").write_text(json.dumps(recorded))
    base = EvaluationRequest(str(pusht_policy), None, None, episodes=30, first_seed=200_000)
    results = [evaluate(replace(base, workers=workers, **timed)) for workers in (1, 2)]
    assert results[0].per_episode == results[1].per_episode
    assert results[0].timing == results[1].timing
    assert results[0].timing is not None
    assert (results[0].timing.dropped > 0) == bool(timed)
    assert len({row.score for row in results[0].per_episode}) > 5
    assert results[0].passes_counted == results[0].nfe == 1
    assert results[0].environment_steps_per_s > 0


def test_passes_are_counted_by_a_hook_and_latency_is_positive():
    policy = make_policy()
    assert count_passes(policy) == policy.nfe == 3
    assert count_passes(replace(policy, sampler=OneStep())) == 1
    times = latency_ms(policy, seconds=0.01)
    assert len(times) == 20
    assert min(times) > 0


def test_requests_that_make_no_sense_are_refused(pusht_policy):
    with pytest.raises(OneDPError, match="episodes must be at least 2"):
        EvaluationRequest("p", None, None, episodes=0, first_seed=0)
    with pytest.raises(OneDPError, match="first-seed must not be negative"):
        EvaluationRequest("p", None, None, episodes=2, first_seed=-1)
    with pytest.raises(OneDPError, match="does not fit the observations or actions of 'pusht-state'"):
        evaluate(EvaluationRequest(str(pusht_policy), None, "pusht-state", episodes=2, first_seed=0))


@pytest.mark.parametrize(
    ("sampler", "timed", "message"),
    [
        (None, {"replan_steps": 40}, "--replan 40 is not possible, expected 1 to 15 steps of the policy"),
        (
            None,
            {"task": "pusht-drift@speed=4", "replan_steps": 16},
            "--replan 16 is not possible, expected 1 to 15 steps",
        ),
        ("one-step:30:0", {"noise": "held"}, r"Held noise needs a sampler that reads noise;.*Use fresh noise\."),
        ("one-step:30:0", {"noise": "warm"}, r"Warm noise needs a sampler that reads noise;.*Use fresh noise\."),
    ],
)
def test_chunks_that_the_policy_cannot_give_are_refused_before_the_first(
    pusht_policy, monkeypatch, sampler, timed, message
):
    """In the policy's steps, whatever the control rate: pusht-drift has five ticks for each."""
    monkeypatch.setattr(runner, "latency_ms", lambda *_: pytest.fail("a chunk was timed"))
    request = EvaluationRequest(str(pusht_policy), sampler, None, episodes=2, first_seed=0)
    with pytest.raises(OneDPError, match=message):
        evaluate(replace(request, **timed))


@pytest.mark.parametrize("noise", ["held", "warm"])
@pytest.mark.parametrize(
    ("teacher", "sampler"),
    [("ddpm", "ddim:10:0"), ("ddpm", "ddpm:100:0"), ("edm", "heun:10:0")],
)
def test_a_sampler_of_many_steps_without_noise_holds_and_warms_none(monkeypatch, teacher, sampler, noise):
    monkeypatch.setattr(runner, "latency_ms", lambda *_: pytest.fail("a chunk was timed"))
    request = EvaluationRequest(f"pusht-keypoints-{teacher}", sampler, None, episodes=2, first_seed=0, noise=noise)
    with pytest.raises(OneDPError, match=f"{noise.capitalize()} noise needs a sampler that reads noise; "):
        evaluate(request)


class Fork(counter_world_test.Counter):
    """Names a way in its second step only."""

    def step(self, action):
        return replace(super().step(action), way="left" if self.t == 2 else None)


def test_the_way_that_an_episode_named_is_kept():
    episode = Episode(replace(counter_world_test.TASK, make_env=Fork), Fork(), seed=1, n_obs_steps=2)
    ways = []
    while not episode.done:
        episode.step(np.zeros(1))
        ways.append(episode.result().way)
    assert ways == [None, "left", "left", "left"]
