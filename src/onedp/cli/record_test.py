"""``onedp record`` and ``onedp distill --beside`` as a user meets them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from onedp.cli.main_test import run
from onedp.data.config import RecordedConfig
from onedp.diffusion.samplers import Ddim, OneStep
from onedp.evaluate.counter_world_test import TASK, save_counter_policy
from onedp.policy import load_policy, save_policy
from onedp.policy_test import make_policy

pytest.importorskip("h5py", reason="h5py is not installed: make simulators")


@pytest.fixture
def policy(tmp_path: Path) -> str:
    return str(save_counter_policy(tmp_path / "counter"))


@pytest.fixture
def recorded_only(tmp_path: Path) -> str:
    """A policy that was trained on a data set alone."""
    provenance = {"recorded": dataclasses.asdict(RecordedConfig())}
    save_policy(tmp_path / "alone", dataclasses.replace(make_policy(OneStep(30.0)), task="", provenance=provenance))
    return str(tmp_path / "alone")


def test_it_says_what_was_kept_and_what_to_do_with_it(
    capsys: pytest.CaptureFixture[str], policy: str, tmp_path: Path
) -> None:
    out = tmp_path / "lost.hdf5"
    code, said, err = run(capsys, "record", policy, "--episodes", "14", "--failed", "--workers", "1", "--out", str(out))
    assert code == 0, err
    assert "2 of 14 episodes kept (without success), 16 steps, in " in said
    assert f"Next: onedp distill TEACHER --data DEMONSTRATIONS --beside {out} " in said
    code, said, err = run(capsys, "inspect", str(out))
    assert code == 0, err
    assert "roll-outs of a policy" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["POLICY"], "record needs --out, for example: onedp record"),
        (["POLICY", "--out", "OUT", "--first-seed", "99999"], "reaches outside 0 to 99999: the starts above are for"),
        (["POLICY", "--out", "OUT", "--first-seed", "200000"], "reaches outside 0 to 99999: the starts above are for"),
        (["POLICY", "--out", "OUT", "--task", "lifd"], "Unknown task 'lifd'. Did you mean 'lift'?"),
        (["POLICY", "--out", "OUT", "--task", "pusht-state"], "does not fit the observations or actions of"),
        (["POLICY", "--out", "OUT", "--task", "recorded"], "no environment to run it in"),
        (["ALONE", "--out", "OUT"], "no environment to run it in"),
        (["POLICY", "--out", "OUT", "--failed", "--lost-below", "1"], "give one of them"),
        (["POLICY", "--out", "OUT", "--sampler", "heun:10"], "heun:10"),
        (["no-such-policy", "--out", "OUT"], "Unknown policy 'no-such-policy'"),
        (
            ["POLICY", "--out", "OUT", "--episodes", "5", "--failed", "--workers", "1"],
            "None of the 5 episodes is one without success: all succeeded. Nothing was written.",
        ),
    ],
)
def test_mistakes_get_one_message_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    policy: str,
    recorded_only: str,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    names = {"POLICY": policy, "ALONE": recorded_only, "OUT": str(tmp_path / "out.hdf5")}
    code, _, err = run(capsys, "record", *(names.get(argument, argument) for argument in arguments))
    assert code == 2
    assert message in err
    assert err.startswith("onedp: ")
    assert "Traceback" not in err
    assert not (tmp_path / "out.hdf5").exists()


@pytest.mark.slow
def test_what_a_policy_lost_is_distilled_on_beside_the_demonstrations(
    capsys: pytest.CaptureFixture[str], policy: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    data, lost = tmp_path / "data.npz", tmp_path / "lost.hdf5"
    arrays = {name: rng.uniform(-5, 5, (60, 1)).astype(np.float32) for name in ("x", "action")}
    np.savez(data, **arrays, episode_ends=[30, 60])
    short = ["--network", "mlp", "--batch-size", "8", "--cpu", "--threads", "1"]
    teacher, student = str(tmp_path / "teacher"), tmp_path / "student"
    train = ["train", "--task", TASK.name, "--data", str(data), "--out", teacher, "--steps", "2", *short]
    assert run(capsys, *train)[0] == 0
    assert run(capsys, "record", policy, "--episodes", "14", "--failed", "--workers", "1", "--out", str(lost))[0] == 0
    both = ["--data", str(data), "--beside", str(lost)]
    code, _, err = run(capsys, "distill", teacher, *both, "--out", str(student), "--steps", "4", *short)
    assert code == 0, err
    provenance = json.loads((student / "policy" / "provenance.json").read_text())
    assert (provenance["run"]["data"], provenance["run"]["beside"]) == ("data.npz", ["lost.hdf5"])
    assert (provenance["data_episodes"], provenance["data_steps"]) == (2 + 2, 60 + 16)
    code, _, err = run(capsys, "distill", "--resume", str(student))  # finished: nothing to do, and no harm
    assert code == 0, err
    code, _, err = run(capsys, "distill", "--resume", str(student), "--beside", str(lost))
    assert code == 2
    assert "leave out beside" in err


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": (20, 2)}, "'x' has the shape (2,) in each step, the task"),
        ({"y": (20, 1)}, "'x'"),
        ({}, "No data set at "),
    ],
)
def test_recordings_that_do_not_fit_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arrays: dict[str, tuple[int, int]], message: str
) -> None:
    data, other = tmp_path / "data.npz", tmp_path / "other.npz"
    np.savez(data, x=np.random.default_rng(0).normal(size=(20, 1)).astype(np.float32), episode_ends=[20])
    if arrays:
        np.savez(other, **{name: np.zeros(shape, np.float32) for name, shape in arrays.items()}, episode_ends=[20])
    counter = load_policy(save_counter_policy(tmp_path / "counter"))
    save_policy(tmp_path / "teacher", dataclasses.replace(counter, sampler=Ddim(3)))
    both = ["--data", str(data), "--beside", str(other)]
    out = tmp_path / "student"
    code, _, err = run(capsys, "distill", str(tmp_path / "teacher"), *both, "--out", str(out), "--cpu")
    assert code == 2
    assert message in err
    assert "other.npz" in err
    assert "Traceback" not in err
    assert not (out / "policy").exists()
