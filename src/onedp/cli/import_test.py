"""``onedp import`` from the command line, and distillation of what it gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from onedp.cli.main import main
from onedp.importers.fake_checkpoints_test import (
    MODES,
    lerobot_features,
    random_weights,
    resnet_shapes,
    statistics,
    unet_shapes,
    write_lerobot,
)
from onedp.importers.lerobot_test import OBSERVED, RENAMES, inputs, state_folder
from onedp.policy import load_policy

NAMES: dict[str, tuple[int, ...]] = {OBSERVED[0]: (2,), OBSERVED[1]: (16,), "action": (2,)}


@pytest.fixture
def theirs(tmp_path):
    return state_folder(tmp_path / "theirs", names=NAMES, modes={**MODES, "ENV": "MIN_MAX"})[0]


def distilled(teacher, data, out):
    arguments = ["distill", str(teacher), "--out", str(out), "--steps", "2", "--batch-size", "4", "--cpu"]
    main([*arguments, "--preset", "paper", *([] if data is None else ["--data", str(data)])])
    return load_policy(out)


def test_import_for_a_task_then_distill(theirs, tmp_path, capsys):
    out = tmp_path / "teacher"
    main(["import", str(theirs), "--out", str(out), "--task", "pusht-keypoints", "--rename", *RENAMES])
    assert (
        "Imported LeRobot policy: keypoints (16,), agent_pos (2,); sampler ddim:5:leading." in capsys.readouterr().out
    )
    teacher = load_policy(out)
    assert teacher.task == "pusht-keypoints"
    assert teacher.provenance["imported_from"] == "LeRobot"
    assert teacher.provenance["command"]
    student = distilled(out, None, tmp_path / "student")
    assert (student.nfe, student.spec) == (1, teacher.spec)
    main(["inspect", str(out)])
    assert "beta_schedule squaredcos_cap_v2" in capsys.readouterr().out


def test_without_a_task_the_policys_own_fields_are_distilled_on(theirs, tmp_path, capsys):
    out = tmp_path / "teacher"
    main(["import", str(theirs), "--out", str(out), "--rate-hz", "15"])
    rng = np.random.default_rng(0)
    arrays = {name: rng.uniform(-1, 1, (12, *NAMES[name])).astype(np.float32) for name in OBSERVED}
    np.savez(tmp_path / "data.npz", episode_ends=[12], **arrays)
    student = distilled(out, tmp_path / "data.npz", tmp_path / "student")
    assert [field.name for field in student.spec.observations] == list(OBSERVED)
    assert student.spec.rate_hz == 15
    obs, noise = inputs(student)
    assert np.isfinite(student.infer(obs, noise)).all()
    np.savez(tmp_path / "wrong.npz", episode_ends=[12], **{name: arrays[name][:, :1] for name in OBSERVED})
    for arguments, message in (
        (
            ["distill", str(out), "--out", str(tmp_path / "s2")],
            "was imported without a task. Give recorded observations",
        ),
        (["evaluate", str(out)], "was imported without a task. Import it again with --task"),
        (
            ["distill", str(out), "--out", str(tmp_path / "s3"), "--data", str(tmp_path / "wrong.npz")],
            "'observation.state' has the shape (1,) in each step, the policy expects (2,)",
        ),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


def test_mistakes_end_with_code_2_and_leave_nothing(theirs, tmp_path, capsys):
    for arguments, message in (
        ([str(theirs)], "import needs --out"),
        ([str(theirs), "--out", str(tmp_path / "x")], "Give --rate-hz"),
        ([str(tmp_path / "none"), "--out", str(tmp_path / "x")], "does not exist. Expected a LeRobot folder"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["import", *arguments])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_folder_says_where_it_came_from(theirs, tmp_path):
    main(["import", str(theirs), "--out", str(tmp_path / "teacher"), "--rate-hz", "10"])
    spec = json.loads((tmp_path / "teacher" / "spec.json").read_text())
    assert (spec["format_version"], spec["task"], spec["encoder"]) == (2, "", {"kind": "state"})
    provenance = json.loads((tmp_path / "teacher" / "provenance.json").read_text())
    assert len(provenance["source_digest"]) == 64


@pytest.mark.slow
def test_a_picture_policy_is_distilled(tmp_path, capsys):
    names: dict[str, tuple[int, ...]] = {"observation.state": (2,), "observation.images.top": (3, 1, 1), "action": (2,)}
    cnn = {f"rgb_encoder.backbone.{key}": shape for key, shape in resnet_shapes("sequential", batch_norm=True).items()}
    cnn |= {"rgb_encoder.pool.nets.weight": (4, 512, 1, 1), "rgb_encoder.pool.nets.bias": (4,)}
    cnn |= {"rgb_encoder.out.weight": (8, 8), "rgb_encoder.out.bias": (8,)}
    unet = {f"unet.{key}": shape for key, shape in unet_shapes(2, 2 * (2 + 8), "lerobot").items()}
    weights = random_weights({**cnn, **unet}, 1) | {"rgb_encoder.pool.pos_grid": torch.zeros(1, 2)}
    features = lerobot_features(state=(2,), images__top=(3, 32, 32))
    changes = {"use_group_norm": False, "crop_shape": None}
    folder = write_lerobot(tmp_path / "theirs", features, weights, statistics(names), **changes)
    main(["import", str(folder), "--out", str(tmp_path / "teacher"), "--rate-hz", "10"])
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    state = rng.normal(size=(6, 2)).astype(np.float32)
    for name, values in (("data", pictures), ("dark", pictures / 255)):
        arrays = {"observation.images.top": values, "observation.state": state}
        np.savez(tmp_path / f"{name}.npz", episode_ends=[6], **arrays)
    student = distilled(tmp_path / "teacher", tmp_path / "data.npz", tmp_path / "student")
    teacher = load_policy(tmp_path / "teacher")
    assert student.encoder == teacher.encoder
    moved, kept = (p.denoiser.encoder.state_dict()["rgb_encoder.0.backbone.1.running_mean"] for p in (student, teacher))
    assert torch.equal(moved, kept)  # fixed statistics of the batch normalisation
    obs, noise = inputs(student)
    assert np.isfinite(student.infer(obs, noise)).all()
    with pytest.raises(SystemExit):
        distilled(tmp_path / "teacher", tmp_path / "dark.npz", tmp_path / "student2")
    assert "the pictures 'observation.images.top' have values from 0 to 1, expected 0 to 255" in capsys.readouterr().err
