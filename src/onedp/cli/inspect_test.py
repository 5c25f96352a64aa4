from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import tyro

from onedp.artifact import Manifest, save_artifact
from onedp.cli.inspect import Inspect
from onedp.cli.inspect_policy import _nfe
from onedp.data.fake_sets_test import lerobot_v2, robomimic
from onedp.data.normalize import fit_normalizer
from onedp.data.readers import open_episodes
from onedp.errors import ArtifactError, DataError, OneDPError
from onedp.tasks import TASKS
from onedp.tasks.demonstrations import load_demonstrations

ENDS = np.array([20, 50])
RNG = np.random.default_rng(0)
STATE = RNG.uniform(50, 400, size=(50, 5))
ACTION = RNG.integers(0, 512, size=(50, 2))


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path / "d.npz", episode_ends=ENDS, **arrays)
    return path / "d.npz"


def lines(text: str) -> list[str]:
    """Printed lines without the frames of tables and with single blanks."""
    return [re.sub(r"\s+", " ", re.sub("[│┃]", " ", line)).strip() for line in text.splitlines()]


def test_command_line(tmp_path: Path) -> None:
    parsed = tyro.cli(Inspect, args=[str(tmp_path), "--task", "pusht-state", "--pictures"])
    assert parsed == Inspect(tmp_path, "pusht-state", True)
    assert tyro.cli(Inspect, args=["somewhere"]) == Inspect(Path("somewhere"))


def test_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = STATE.copy()
    state[23, 1] = np.nan
    state[:, 2] = 100.0
    state[30:, 0] = 10_000.0
    path = save(tmp_path, state=state, action=ACTION, words=np.array(["a"] * 50), img=np.zeros((50, 8, 8, 3), np.uint8))
    Inspect(path).run()
    printed = lines(capsys.readouterr().out)
    assert printed[:6] == [
        str(path),
        "format npz (not compressed, memory-mapped)",
        "episodes 2",
        "steps 50",
        "lengths 20 to 30 steps, mean 25.0",
        "rate not recorded in the data",
    ]
    assert any(line.startswith("Arrays and shapes fit pusht-keypoints, pusht-state") for line in printed)
    assert "action (2,) int64 unknown 0 none" in printed
    assert "img (8, 8, 3) uint8 unknown ? ? not read; to read it: --pictures" in printed
    assert "state (5,) float64 unknown 1 2 first NaN or inf in episode 1, step 3" in printed
    assert any(line.startswith("words () str") and line.endswith("not readable, see below") for line in printed)
    first = next(line for line in printed if line.startswith("state 0 "))
    assert first.split()[3] == "10000"
    assert first.endswith("1, 10")
    assert any(line.startswith("warning: 'words' holds text (type <U1), expected plain numbers") for line in printed)
    digest = open_episodes(path, ("state", "action")).digest()
    assert f"digest {digest} (without img, words)" in printed


def test_data_set_with_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path, img=np.full((50, 8, 8, 3), 9, np.uint8))
    Inspect(path, pictures=True).run()
    printed = lines(capsys.readouterr().out)
    assert "img all 9 9 9 0" in printed
    assert f"digest {open_episodes(path).digest()}" in printed


def test_data_set_as_a_task_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path, state=STATE, action=ACTION)
    Inspect(path, task="pusht-keypoints").run()
    printed = lines(capsys.readouterr().out)
    assert "rate not recorded in the data; pusht-keypoints runs at 10 Hz" in printed
    assert "state (5,) float64 px px px px rad 0 none" in printed
    assert "keypoints (16,) px" in printed
    assert (
        "36 windows, 2 padded before the episode's start, 14 after its end; 10.1% of all actions are padding."
        in printed
    )
    assert "executed x x x x x x x x" in printed
    assert f"digest {load_demonstrations(path, TASKS['pusht-keypoints']).digest()} (of these fields)" in printed


def test_data_set_without_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Inspect(save(tmp_path, state=STATE), task="pusht-state").run()
    assert "No 'action': good for distillation, not for training a teacher." in lines(capsys.readouterr().out)


def test_data_set_with_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Inspect(save(tmp_path, state=STATE, action=ACTION + 100), task="pusht-state").run()
    assert "warning: 'action' is outside the limits (0.0, 0.0) to (512.0, 512.0)" in capsys.readouterr().out


def test_nothing_there(tmp_path: Path) -> None:
    path = save(tmp_path, state=STATE)
    with pytest.raises(OneDPError, match=rf"Nothing at .*no shipped policy of that name. Did you mean '{path}'\?"):
        Inspect(tmp_path / "e.npz").run()


def test_path_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(OneDPError, match=r"cannot be read: File name too long. Check the path and its rights"):
        Inspect(tmp_path / ("long" * 100)).run()


def test_neither_data_nor_policy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder without zarr metadata"):
        Inspect(tmp_path).run()


# --- policies


def save_policy(folder: Path) -> Path:
    task = TASKS["pusht-state"]
    fields = (*task.spec.observations, task.spec.action)
    arrays = {field.name: RNG.uniform(0, 100, size=(9, *field.shape)).astype(np.float32) for field in fields}
    arrays["block_pos"][:, 1] = 7.0
    manifest = Manifest(
        spec=task.spec,
        task=task.name,
        network={"kind": "unet", "channels": [8, 16]},
        process={"kind": "ddpm", "steps": 100},
        parameterization="eps",
        sampler={"kind": "ddim", "steps": 10, "clip": 1.0},
        normalizer=fit_normalizer(arrays, task.spec),
        provenance={"command": "onedp train", "seeds": {"train": 0}},
    )
    save_artifact(folder, manifest, {"a": np.zeros((10, 3), np.float16), "b": np.zeros(4, np.float16)})
    return folder


def test_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_policy(tmp_path / "policy")
    Inspect(folder).run()
    text = capsys.readouterr().out
    printed = lines(text)
    size = (folder / "weights.safetensors").stat().st_size
    for expected in (
        "task pusht-state",
        "network unet (channels [8, 16])",
        f"weights 34 ({size:,} bytes)",
        "process ddpm (steps 100)",
        "parameterization eps",
        "sampler ddim (steps 10, clip 1.0)",
        "network passes 10 a chunk",
        "observation block_cos_sin (2,) 1 float32",
        "action action (2,) px float32 0 to 512, 0 to 512",
        "1 7 7 7 0 constant in the training data",
        "observed o o",
    ):
        assert expected in printed
    assert json.loads(text[text.index("{") :]) == json.loads((folder / "provenance.json").read_text())


def test_tampered_policy_is_described_and_then_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_policy(tmp_path / "policy")
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ArtifactError, match="is not the file that was saved"):
        Inspect(folder).run()
    assert "network passes 10 a chunk" in lines(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["spec.json", "norm_stats.json", "provenance.json", "weights.safetensors"])
def test_incomplete_policy(tmp_path: Path, name: str) -> None:
    folder = save_policy(tmp_path / "policy")
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=re.escape(name)):
        Inspect(folder).run()


def test_policy_with_a_task(tmp_path: Path) -> None:
    with pytest.raises(OneDPError, match=r"is a policy, which has a task of its own. Leave out --task"):
        Inspect(save_policy(tmp_path / "policy"), task="pusht-state").run()


def test_network_passes_are_those_of_the_samplers() -> None:
    pytest.importorskip("torch")
    from onedp.diffusion.sampler_table import SAMPLERS, sampler_to_json

    for sampler in (kind() for kind in SAMPLERS.values()):
        assert _nfe(sampler_to_json(sampler)) == str(sampler.nfe)
    assert _nfe({"kind": "new"}) == "unknown"


# --- the real data


def test_real_data(pusht_human: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Inspect(pusht_human / "pusht_cchi_v7_replay.zarr.zip", task="pusht-keypoints").run()
    printed = lines(capsys.readouterr().out)
    for expected in (
        "format zarr v2 (zip)",
        "episodes 206",
        "steps 25,650",
        "lengths 49 to 246 steps, mean 124.5",
        "img (96, 96, 3) uint8 unknown ? ? not read; to read it: --pictures",
    ):
        assert expected in printed
    assert any(line.startswith("24,208 windows, 206 padded before the episode's start") for line in printed)


# --- other people's formats


def test_lerobot_set_with_a_video_that_ends_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = lerobot_v2(tmp_path / "set")
    video = sorted(root.rglob("*.mp4"))[1]
    video.write_bytes(video.read_bytes()[:-300])
    Inspect(root, task="recorded").run()
    printed = " ".join(lines(capsys.readouterr().out))
    assert "format LeRobot v2.1 (with video)" in printed
    assert "rate 10 Hz, as the data set says; 10 Hz from the timestamps; recorded runs at 10 Hz" in printed
    assert "split train: 3 episodes note Task: push" in printed
    assert "warning: Episode 1 has no pictures 'observation.images.top': The video" in printed
    assert "As the task 'recorded' reads it" in printed
    assert "1 episodes were left out. Episode 1 has no pictures" in printed


def test_a_video_damaged_inside_is_its_episodes_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = lerobot_v2(tmp_path / "set")
    video = next((root / "videos").rglob("episode_000001.mp4"))
    content = bytearray(video.read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 8
    content[start:end] = bytes(end - start)
    video.write_bytes(bytes(content))
    Inspect(root, pictures=True).run()
    out = " ".join(capsys.readouterr().out.split())
    assert "Episode 1 has pictures 'observation.images.top' that cannot be decoded (The video" in out
    assert "episodes 2 " in out


def test_robomimic_file_and_its_scaling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Inspect(robomimic(tmp_path / "d.hdf5"), task="recorded", split="train", normalization="mean_std").run()
    printed = " ".join(lines(capsys.readouterr().out))
    assert "episodes 2 steps 15" in printed
    assert "rate 20 Hz, as the data set says" in printed
    assert "note Environment: Lift" in printed
    assert "Normalisation: network = (value - centre) / width" in printed
    assert "top_image min_max 0 127.5 127.5" in printed
    assert "robot0_eef_pos mean_std 0" in printed


def test_stuck_sensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = STATE.copy()
    state[20:, 3] = 7.0  # all of the second episode
    Inspect(save(tmp_path, state=state, action=ACTION)).run()
    printed = " ".join(lines(capsys.readouterr().out))
    assert (
        "warning: 'state' is stuck at times in the dimensions [3]: dimension 3 keeps one value for 30 steps from "
        "episode 1, step 0 on; up to 1 of 2 episodes are stuck throughout."
    ) in printed


def test_quaternions_are_pointed_out_with_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    angle = np.linspace(0.2, 3.0, 12)
    turns = np.stack([np.zeros(12), np.zeros(12), np.sin(angle), np.cos(angle)], axis=1)
    pose = np.concatenate([np.arange(12.0)[:, None], np.where(np.arange(12)[:, None] == 6, -turns, turns)], axis=1)
    arrays = {"observation.pose": pose, "action": np.arange(12.0)[:, None], "episode_ends": np.array([12])}
    np.savez(tmp_path / "d.npz", **arrays)
    Inspect(tmp_path / "d.npz").run()
    out = " ".join(capsys.readouterr().out.split())
    assert "unit quaternion from 1 on, whose sign changes in 18.2% of the steps" in out
    assert "--task recorded --quaternions observation.pose:1" in out


def test_hub_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: Any, **options: Any) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(DataError, match=r"'hub:lerobot/pusht' could not be downloaded \(ConnectionError: no network\)"):
        Inspect(Path("hub:lerobot/pusht")).run()


def test_real_lerobot_set(pusht_human: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Inspect(pusht_human.parent / "pusht_human_lerobot_v3").run()
    printed = " ".join(lines(capsys.readouterr().out))
    assert "episodes 206 steps 25,650" in printed
    assert "warning: 'observation.image' has no video" in printed
    assert "note Task: Push the T-shaped block onto the T-shaped target." in printed
