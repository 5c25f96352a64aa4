"""The command line as a user meets it: one message, exit code 2, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from onedp.cli.main import VERBS, main
from onedp.errors import OneDPError


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    try:
        main(list(arguments))
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def demonstrations(tmp_path):
    """Sixty steps of made-up Push-T in three episodes."""
    rng = np.random.default_rng(0)
    path = tmp_path / "demos.npz"
    state = rng.uniform(50, 450, (60, 5)).astype(np.float32)
    action = rng.uniform(0, 512, (60, 2)).astype(np.float32)
    np.savez(path, state=state, action=action, episode_ends=np.array([20, 40, 60]))
    return path


def test_help_names_every_verb(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(verb in out for verb in VERBS)


def test_warnings_are_sentences_without_our_code():
    code = (
        "import warnings; from onedp.cli import main as m; m._run = lambda *_: warnings.warn('odd data'); m.main([{}])"
    )
    plain, debug = (
        subprocess.run(
            [sys.executable, "-c", code.format(arguments)], capture_output=True, text=True, check=True
        ).stderr
        for arguments in ("'train'", "'train', '--debug'")
    )
    assert plain == "onedp: warning: odd data\n"
    assert "UserWarning: odd data" in debug


TIDY = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from onedp.cli import main as m
from onedp.files import replaced_folder

def run(verb, arguments):
    with replaced_folder(Path(arguments[0]) / "out") as folder, ProcessPoolExecutor(2) as pool:
        (folder / "part").write_text("half")
        for _ in range(6):
            pool.submit(time.sleep, 600)
        print("writing", flush=True)
        while True:  # one long sleep would not notice a signal that comes right before it
            time.sleep(0.05)

m._run = run
m.main(["convert", sys.argv[1]])
"""


def test_a_terminated_process_leaves_no_workers_and_no_temporary_files(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", TIDY, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.terminate()
    assert process.wait(timeout=60) == 143
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert f"onedp {verb}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Unknown verb 'trian'. Did you mean 'train'?"),
        (["train"], "train needs --data and --out"),
        (["train", "--data", "nowhere.npz", "--out", "OUT"], "No data set at nowhere.npz"),
        (["train", "--data", "DATA", "--out", "OUT", "--task", "pusht-keypoint"], "Did you mean 'pusht-keypoints'?"),
        (
            ["train", "--data", "DATA", "--out", "OUT", "--method", "onedp-s"],
            "another verb: onedp distill --method onedp-s",
        ),
        (["train", "--data", "DATA", "--out", "OUT", "--method", "mip", "--process", "edm"], "leave out --process"),
        (
            ["distill", "pusht-keypoints-ddpm", "--out", "OUT", "--method", "mip"],
            "another verb: onedp train --method mip",
        ),
        (["distill", "pusht-keypoints-ddpm", "--out", "OUT", "--method", "onedp-z"], "Did you mean 'onedp-"),
        (
            ["distill", "pusht-keypoints-ddpm", "--out", "OUT", "--method", "sid", "--preset", "paper"],
            "Unknown preset of sid 'paper'",
        ),
        (
            ["distill", "pusht-keypoints-ddpm", "--out", "OUT", "--method", "regression", "--tracker-lr", "1"],
            "has no generator score network; leave out --tracker-lr",
        ),
        (
            ["distill", "pusht-keypoints-ddpm", "--out", "OUT", "--method", "onedp-d", "--regression-lr", "1"],
            "method onedp-d with preset small has no regression before its own training; leave out --regression-lr",
        ),
        (["train", "--resume", "OUT"], "holds no run to resume"),
        (["distill"], "distill needs a TEACHER and --out"),
        (["distill", "no-such-teacher", "--out", "OUT", "--data", "DATA"], "Unknown policy 'no-such-teacher'"),
        (["evaluate", "no-such-policy"], "Unknown policy 'no-such-policy'"),
        (["evaluate", "pusht-keypoints-onedp-s", "--ray", "nowhere"], "Ray"),  # not installed, or the address is none
        (["compare", "one"], "compare needs at least two policies"),
        (["compare", "a", "b", "--reference", "c"], "The reference 'c' is not among the policies"),
        (["inspect", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_get_one_message_and_exit_code_2(capsys, tmp_path, demonstrations, arguments, message):
    names = {"OUT": str(tmp_path / "out"), "DATA": str(demonstrations)}
    code, _, err = run(capsys, *(names.get(argument, argument) for argument in arguments))
    assert code == 2
    assert message in err
    assert err.startswith("onedp: ")
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "policy").exists()


def test_debug_shows_the_error_itself():
    with pytest.raises(OneDPError, match="Unknown policy"):
        main(["evaluate", "no-such-policy", "--debug"])


@pytest.mark.slow
def test_train_distill_inspect_and_resume_by_hand(capsys, tmp_path, demonstrations):
    """The verbs one after the other on a few steps of made-up data."""
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    short = ["--steps", "3", "--batch-size", "8", "--cpu"]
    code, out, err = run(
        capsys, "train", "--data", str(demonstrations), "--out", str(teacher), "--network", "mlp", *short
    )
    assert code == 0, err
    assert "Next: onedp distill" in out
    code, _, err = run(capsys, "train", "--data", str(demonstrations), "--out", str(teacher), *short)
    assert code == 2
    assert "already holds a run" in err
    for method in ("onedp-s", "onedp-d"):
        out_folder = student / method
        arguments = [
            "distill",
            str(teacher),
            "--method",
            method,
            "--data",
            str(demonstrations),
            "--out",
            str(out_folder),
        ]
        code, _, err = run(capsys, *arguments, *short)
        assert code == 0, err
        provenance = json.loads((out_folder / "policy" / "provenance.json").read_text())
        assert provenance["teacher"]["name"] == "teacher"
        assert provenance["training_seconds"] > 0
        assert str(tmp_path) not in json.dumps({key: provenance[key] for key in ("run", "teacher")})
        code, out, err = run(capsys, "inspect", str(out_folder))
        assert code == 0, err
        assert "one-step" in out
    code, _, err = run(capsys, "train", "--resume", str(teacher))  # finished: nothing to do, and no harm
    assert code == 0, err
    code, _, err = run(capsys, "train", "--resume", str(teacher), "--lr", "0.1")
    assert code == 2
    assert "leave out lr" in err
    code, _, err = run(
        capsys, "distill", str(student / "onedp-s"), "--data", str(demonstrations), "--out", str(tmp_path / "x")
    )
    assert code == 2
    assert "is a one-step student itself" in err
