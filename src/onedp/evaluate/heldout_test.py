"""The comparison on held-out observations: metrics of policies whose answers are known, files, messages."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from tqdm import tqdm

from onedp.cli.main import main
from onedp.data.config import ReadingConfig
from onedp.data.normalize import fit_normalizer
from onedp.diffusion.samplers import Ddim
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import DataError, OneDPError
from onedp.evaluate.heldout import METRICS, chunk_metrics, compare_heldout, sample_chunks, seam_jumps
from onedp.evaluate.heldout_data import load_heldout
from onedp.nets.build import build_denoiser
from onedp.nets.config import MlpConfig
from onedp.policy import TorchPolicy, save_policy
from onedp.report.heldout import HEADINGS, terminal_table
from onedp.tasks import PUSHT_KEYPOINTS

SPEC = PUSHT_KEYPOINTS.spec


def make_policy() -> TorchPolicy:
    """An untrained policy of the task that answers differently to different noise."""
    torch.manual_seed(0)
    network = MlpConfig(width=16, blocks=1, step_embed_dim=8)
    denoiser = build_denoiser(network, SPEC, CosineDdpm(), "eps").requires_grad_(False).eval()
    rng = np.random.default_rng(0)
    fields = (*SPEC.observations, SPEC.action)
    arrays = {field.name: rng.uniform(0, 512, (50, *field.shape)).astype(np.float32) for field in fields}
    return TorchPolicy(
        name="p",
        spec=SPEC,
        task="pusht-keypoints",
        denoiser=denoiser,
        sampler=Ddim(3),
        normalizer=fit_normalizer(arrays, SPEC),
        network=network,
        provenance={"weights_digest": "none"},
        device=torch.device("cpu"),
    )


def write_data(path: Path, episodes: int = 40, steps: int = 20, actions: bool = True) -> Path:
    rng = np.random.default_rng(0)
    n = episodes * steps
    arrays = {"state": np.concatenate([rng.uniform(50, 450, (n, 4)), rng.uniform(-3, 3, (n, 1))], axis=1)}
    if actions:
        arrays["action"] = rng.uniform(50, 450, (n, 2))
    np.savez(path, episode_ends=np.arange(1, episodes + 1) * steps, **arrays)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data.npz")


def test_every_metric_has_a_heading():
    assert list(HEADINGS) == list(METRICS)


def test_only_held_out_episodes_are_judged_and_followed_within_their_episode(data):
    found = load_heldout(data, PUSHT_KEYPOINTS, SPEC, count=1000, seed=0)
    assert len(found.has_next) == 2 * 20  # episodes 19 and 39 of 40
    assert found.has_next.sum() == 2 * (20 - SPEC.n_action_steps)
    assert "2 of 40 episodes" in found.selection
    with np.load(data) as file:
        state, action = file["state"], file["action"]
    assert np.allclose(found.now["agent_pos"][0, -1], state[19 * 20, :2])
    assert np.allclose(found.next["agent_pos"][0, -1], state[19 * 20 + SPEC.n_action_steps, :2])
    assert found.actions is not None
    assert np.allclose(found.actions[0, 0], action[19 * 20])


def test_a_small_data_set_is_judged_whole_and_says_so(tmp_path):
    found = load_heldout(write_data(tmp_path / "small.npz", episodes=3), PUSHT_KEYPOINTS, SPEC, 10, 0)
    assert "all 3 episodes" in found.selection
    assert "make sure that the policies were not trained on them" in found.selection


def test_bad_episodes_are_left_out_when_that_is_asked_for(data):
    with np.load(data) as file:
        arrays = dict(file)
    arrays["action"][5] = np.nan
    np.savez(data, **arrays)
    with pytest.raises(DataError, match="NaN or infinity in 1 steps, first in episode 0"):
        load_heldout(data, PUSHT_KEYPOINTS, SPEC, 10, 0)
    found = load_heldout(data, PUSHT_KEYPOINTS, SPEC, 1000, 0, ReadingConfig(skip_bad_episodes=True))
    assert "1 of 39 episodes" in found.selection
    assert found.selection.endswith("; 1 that cannot be used were left out")
    assert np.allclose(found.now["agent_pos"][0, -1], arrays["state"][20 * 20, :2])  # the twentieth that is left


def test_metrics_of_known_chunks():
    policy = make_policy()
    rng = np.random.default_rng(0)
    truth = rng.uniform(100, 400, (4, 8, SPEC.chunk_length, 2)).astype(np.float32)
    scale = policy.normalizer.scale_offset("action")[0]
    one = truth[:, :1].repeat(8, axis=1)  # always the same chunk
    values = chunk_metrics(one, truth, policy, actions=one[:, 0] + np.float32(3))
    assert values["spread"] == pytest.approx(np.zeros(4), abs=1e-6)
    assert values["demonstration_error"] == pytest.approx(
        np.full(4, 3 * np.sqrt((scale.astype(np.float64) ** 2).mean())), rel=1e-3
    )
    assert (values["energy_distance"] > 0.1).all()
    assert values["at_limits"].tolist() == [0, 0, 0, 0]
    stuck = np.full_like(one, SPEC.action_high[0])
    assert chunk_metrics(stuck, truth, policy, None)["at_limits"].tolist() == [1, 1, 1, 1]


def test_a_seam_without_a_jump_has_none():
    policy = make_policy()
    chunks = np.random.default_rng(0).uniform(0, 500, (3, 2, SPEC.chunk_length, 2)).astype(np.float32)
    following = np.roll(chunks, -SPEC.n_action_steps, axis=2)
    assert seam_jumps(chunks, following, policy).tolist() == [0, 0, 0]
    assert (seam_jumps(chunks, following + 1, policy) > 0).all()


def test_noise_belongs_to_the_observation_not_to_the_batch():
    policy = make_policy()
    obs = SPEC.fake_observation(70, np.random.default_rng(0))  # more than one batch
    together = sample_chunks(policy, obs, 2, seed=5)
    first = sample_chunks(policy, {name: values[:3] for name, values in obs.items()}, 2, seed=5)
    assert np.allclose(together[:3], first, atol=1e-3)


def test_progress_counts_every_pass():
    policy = make_policy().with_sampler("ddim:3")
    told: list[int] = []
    sample_chunks(policy, SPEC.fake_observation(70, np.random.default_rng(0)), 2, 5, told.append)
    assert told == [64 * 2 * 3, 6 * 2 * 3]


def test_progress_ends_at_its_total(data, monkeypatch):
    bars: list[tqdm] = []

    def shown(**options: Any) -> tqdm:
        bars.append(tqdm(**options | {"disable": False}))
        return bars[0]

    monkeypatch.setattr("onedp.evaluate.heldout.tqdm", shown)
    policy = make_policy()
    compare_heldout([policy, policy.with_sampler("ddim:2")], 0, data, PUSHT_KEYPOINTS, count=4, draws=2, seed=0)
    assert bars[0].n == bars[0].total > 0


def test_without_demonstrated_actions_that_metric_is_left_out(tmp_path):
    data = write_data(tmp_path / "observations.npz", actions=False)
    policy = make_policy()
    row = compare_heldout([policy, policy], 0, data, PUSHT_KEYPOINTS, count=4, draws=2, seed=0).rows[1]
    assert row.metrics["demonstration_error"] is None
    assert row.metrics["spread"] is not None


def test_policies_of_different_timing_are_refused(data):
    policy = make_policy()
    other = dataclasses.replace(policy, name="other", spec=dataclasses.replace(SPEC, n_action_steps=4))
    with pytest.raises(OneDPError, match="have different specs"):
        compare_heldout([policy, other], 0, data, PUSHT_KEYPOINTS, count=4, draws=2, seed=0)
    with pytest.raises(OneDPError, match=r"observations \(4\) and draws \(1\) must be at least 2"):
        compare_heldout([policy], 0, data, PUSHT_KEYPOINTS, count=4, draws=1, seed=0)


def test_command_writes_json_and_page(tmp_path, data, capsys):
    save_policy(tmp_path / "a", make_policy())
    arguments = ["compare", str(tmp_path / "a"), f"{tmp_path / 'a'}@ddim:2", "--data", str(data)]
    main([*arguments, "--observations", "5", "--draws", "3", "--out", str(tmp_path / "out")])
    written = json.loads((tmp_path / "out/heldout.json").read_text())
    assert written["format"] == "onedp.heldout/1"
    assert [row["sampler"] for row in written["rows"]][1] == "ddim:2"
    assert set(written["rows"][0]["metrics"]) == set(METRICS)
    page = (tmp_path / "out/report.html").read_text()
    assert "Jump at seams" in page
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?https?:|url\(https?:", page)  # no network needed
    assert "5 observations of 2 of 40 episodes" in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("width", [80, 140])
def test_the_table_holds_every_policy_whole(data, count, width):
    policy = make_policy()
    names = ["pusht-keypoints-ddpm-of-a-long-name", *"bcdef"][:count]
    policies = [dataclasses.replace(policy, name=name) for name in names]
    comparison = compare_heldout(policies, count - 1, data, PUSHT_KEYPOINTS, count=4, draws=2, seed=0)
    out = io.StringIO()
    Console(file=out, width=width, markup=False).print(terminal_table(comparison))
    text = out.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert text.count("(reference)") == max(1, (count - 1 + 1) // 2)
    for row in comparison.rows:
        for metric in row.metrics.values():
            assert metric is not None
            assert f"{metric.mean:.3f}" in text
            assert f"[{metric.ci95[0]:.3f}, {metric.ci95[1]:.3f}]" in text


def test_results_files_have_no_chunks(tmp_path, data, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "a.json", "b.json", "--data", str(data), "--out", str(tmp_path / "out")])
    assert "With --data every policy must be a folder or a shipped name" in capsys.readouterr().err
