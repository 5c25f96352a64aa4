"""Artifacts and the torch policy: strictness, round trips, purity."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from onedp.artifact import artifact_name, file_digest, resolve_artifact
from onedp.data.normalize import fit_normalizer
from onedp.diffusion.few_step_samplers import Consistency
from onedp.diffusion.samplers import Ddim, Ddpm, OneStep
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import ArtifactError, OneDPError, SpecError
from onedp.files import recover_folder, replaced_folder
from onedp.nets.build import build_denoiser
from onedp.nets.config import MlpConfig
from onedp.observations import checked_inputs
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.types import FieldSpec, Policy, PolicySpec, episode_noise

SPEC = PolicySpec(
    observations=(FieldSpec("where", (3,), "m"), FieldSpec("grip", (1,), "m")),
    action=FieldSpec("action", (2,), "m"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 0.5),
    rate_hz=10.0,
    horizon=8,
    n_obs_steps=2,
    n_action_steps=4,
)


def make_policy(sampler=None) -> TorchPolicy:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    arrays = {
        "where": rng.normal(2, 3, (50, 3)).astype(np.float32),
        "grip": rng.uniform(0, 0.1, (50, 1)).astype(np.float32),
        "action": rng.uniform(-2, 2, (50, 2)).astype(np.float32),
    }
    network = MlpConfig(width=16, blocks=1, step_embed_dim=8)
    denoiser = build_denoiser(network, SPEC, CosineDdpm(), "eps").requires_grad_(False).eval()
    for parameter in denoiser.parameters():  # fresh residual blocks are identities and would ignore the observation
        parameter.add_(0.1 * torch.randn(parameter.shape))
    return TorchPolicy(
        name="p",
        spec=SPEC,
        task="pusht-keypoints",
        denoiser=denoiser,
        sampler=sampler or Ddim(3),
        normalizer=fit_normalizer(arrays, SPEC),
        network=network,
        provenance={"seed": 0},
        device=torch.device("cpu"),
    )


def inputs(policy, batch=3):
    obs = policy.spec.fake_observation(batch, np.random.default_rng(1))
    noise = np.stack([episode_noise(seed, 0, policy.noise_shape) for seed in range(batch)])
    return obs, noise


@pytest.fixture
def saved(tmp_path):
    save_policy(tmp_path / "teacher", make_policy())
    return tmp_path / "teacher"


def test_a_policy_fulfils_the_protocol_and_answers_from_now_on():
    policy = make_policy(Ddpm(100))
    assert isinstance(policy, Policy)
    chunk = policy.infer(*inputs(policy))
    assert chunk.shape == (3, 7, 2)
    assert chunk.dtype == np.float32
    assert (chunk <= [1.0, 0.5]).all()
    assert (chunk >= -1).all()


def test_infer_is_pure_and_rows_do_not_see_each_other():
    policy = make_policy(OneStep(5.0))
    obs, noise = inputs(policy)
    first = policy.infer(obs, noise)
    np.testing.assert_array_equal(first, policy.infer(obs, noise))
    obs["where"][0] += 1
    np.testing.assert_array_equal(first[1:], policy.infer(obs, noise)[1:])
    assert not np.array_equal(first[0], policy.infer(obs, noise)[0])


def test_loaded_policy_gives_the_same_actions(saved):
    policy, loaded = make_policy(), load_policy(saved)
    np.testing.assert_array_equal(policy.infer(*inputs(policy)), loaded.infer(*inputs(loaded)))
    assert loaded.sampler == Ddim(3)
    assert loaded.provenance["seed"] == 0


def test_half_precision_is_half_as_large_and_close(tmp_path, saved):
    policy = make_policy()
    save_policy(tmp_path / "half", policy, dtype="float16")
    half = load_policy(tmp_path / "half")
    np.testing.assert_allclose(half.infer(*inputs(half)), policy.infer(*inputs(policy)), atol=0.02)
    sizes = [(folder / "weights.safetensors").stat().st_size for folder in (tmp_path / "half", saved)]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_student_alone_is_as_large_as_its_teacher_and_acts_without_it(tmp_path, saved):
    save_policy(tmp_path / "student", replace(make_policy(), sampler=OneStep(noise_scale=0.5)))
    shutil.rmtree(saved)
    student = load_policy(tmp_path / "student")
    assert student.nfe == 1
    student.infer(*inputs(student))
    assert sum(p.numel() for p in student.denoiser.parameters()) == sum(
        p.numel() for p in make_policy().denoiser.parameters()
    )


def test_a_student_keeps_its_own_level_when_asked_for_one_step():
    own = OneStep(50.0, noise_scale=0.5, input_scale=0.25)
    student = make_policy(own)
    assert student.with_sampler("one-step").sampler == own
    assert student.with_sampler("one-step:50:0.5").sampler == own
    assert student.with_sampler("one-step:65").sampler == OneStep(65.0, input_scale=0.25)
    with pytest.raises(
        OneDPError, match=r"is a one-step student, so it answers at one noise level only; ddim:10 would"
    ):
        student.with_sampler("ddim:10")
    assert own.label == "one-step:50:0.5"


def test_a_chained_student_keeps_its_own_levels_and_takes_a_factor_on_its_noise():
    student = make_policy(Consistency((60.0,), clip=None))
    assert student.with_sampler("consistency:1").sampler == Consistency((60.0,), clip=None)
    assert student.with_sampler("consistency:1:0.5").sampler == Consistency((60.0,), 0.5, None)
    assert student.with_sampler("consistency:3:0.5").nfe == 3
    without = make_policy(Consistency((60.0, 6.0), 0.0))
    assert without.with_sampler("consistency:2").sampler == without.with_sampler("consistency:2:0").sampler
    with pytest.raises(OneDPError, match=r"was trained without noise; consistency:2:0\.5 would"):
        without.with_sampler("consistency:2:0.5")
    assert without.sampler.label == "consistency:2"


def test_a_run_folder_stands_for_its_policy(tmp_path):
    save_policy(tmp_path / "run" / "policy", make_policy())
    assert resolve_artifact(tmp_path / "run") == tmp_path / "run" / "policy"
    assert artifact_name(tmp_path / "run" / "policy") == "run"
    assert load_policy(tmp_path / "run").name == "run"


def rewrite_weights(folder, change):
    """Change the weights and their digest, as a careful forger would."""
    weights = load_file(folder / "weights.safetensors")
    change(weights)
    save_file(weights, folder / "weights.safetensors")
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["weights_digest"] = file_digest(folder / "weights.safetensors")
    (folder / "provenance.json").write_text(json.dumps(provenance))


def edit_json(folder, name, change):
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))


HEAD = "backbone.head.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(HEAD), "missing backbone.head.weight; not expected none"),
        (lambda w: w.update(extra=np.zeros(2, np.float32)), "missing none; not expected extra"),
        (
            lambda w: w.update({HEAD: np.zeros((2, 2), np.float32)}),
            r"backbone.head.weight \(2, 2\) instead of \(16, 16\)",
        ),
    ],
)
def test_weights_must_fit_exactly(saved, change, message):
    rewrite_weights(saved, change)
    with pytest.raises(ArtifactError, match=message):
        load_policy(saved)


@pytest.mark.parametrize("damage", ["truncated", "tampered"])
def test_changed_weights_are_noticed(saved, damage):
    file = saved / "weights.safetensors"
    data = bytearray(file.read_bytes())
    if damage == "tampered":
        data[-1] ^= 1
    file.write_bytes(data if damage == "tampered" else data[: len(data) // 2])
    with pytest.raises(ArtifactError, match="is not the file that was saved"):
        load_policy(saved)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("spec.json", lambda d: d.update(format_version=3), "format version 3; this package reads up to 2. Update"),
        ("spec.json", lambda d: d.pop("sampler"), r"missing entries \['sampler'\]"),
        ("spec.json", lambda d: d.update(magic=1), r"unknown entries \['magic'\]"),
        ("spec.json", lambda d: d["network"].update(kind="resnet"), "Unknown network 'resnet'"),
        (
            "spec.json",
            lambda d: d["network"].update(width="wide"),
            "The network: 'width' is \"wide\", expected a whole number",
        ),
        ("spec.json", lambda d: d.update(process="ddpm"), "not readable"),
        ("spec.json", lambda d: d.update(sampler=None), "not readable"),
        ("spec.json", lambda d: d["sampler"].update(steps=0), "must be 1 or more"),
        ("spec.json", lambda d: d.update(format_version=0), "format version 0"),
        (
            "spec.json",
            lambda d: d["policy"].pop("horizon") and d["policy"].update(horizont=8),
            "The policy spec has the unknown entries \\['horizont'\\]",
        ),
        ("norm_stats.json", lambda d: d.pop("grip"), r"no statistics for \['grip'\]"),
        ("norm_stats.json", lambda d: d["where"].update(min=[0.0]), "'min' of 'where'"),
    ],
)
def test_damaged_descriptions_are_explained(saved, name, change, message):
    edit_json(saved, name, change)
    with pytest.raises(OneDPError, match=message):
        load_policy(saved)


@pytest.mark.parametrize("name", ["weights.safetensors", "norm_stats.json", "provenance.json"])
def test_missing_files_are_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        load_policy(saved)


def test_unknown_policies_and_devices_are_explained(tmp_path):
    with pytest.raises(ArtifactError, match="Unknown policy 'nowhere'"):
        load_policy("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"has no spec\.json"):
        load_policy(tmp_path / "empty")
    if not torch.cuda.is_available():
        save_policy(tmp_path / "p", make_policy())
        with pytest.raises(OneDPError, match="The device 'cuda' cannot be used"):
            load_policy(tmp_path / "p", device="cuda")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda obs, noise: (obs | {"where": obs["where"][:, :1]}, noise), r"'where' has shape \(3, 1, 3\), expected"),
        (lambda obs, noise: ({"where": obs["where"]}, noise), r"missing \['grip'\]"),
        (lambda obs, noise: (obs, noise[:, :, :4]), r"Noise has shape \(3, 1, 4, 2\), expected \(3, 1, 8, 2\)"),
        (lambda obs, noise: (obs | {"grip": obs["grip"] * np.float32("nan")}, noise), "'grip' has NaN or infinity"),
        (lambda obs, noise: (obs | {"grip": np.full((3, 2, 1), 1e39)}, noise), "'grip' has NaN or infinity"),
        (lambda obs, noise: (obs, noise * np.nan), "Noise has NaN or infinity"),
        (lambda obs, noise: (obs | {"grip": np.full((3, 2, 1), "a")}, noise), "'grip' has dtype <U1, expected float32"),
    ],
)
def test_wrong_inputs_are_explained(change, message):
    policy = make_policy()
    with pytest.raises(SpecError, match=message):
        policy.infer(*change(*inputs(policy)))


def test_arrays_of_other_types_are_converted():
    policy = make_policy()
    obs, noise = inputs(policy)
    wide = policy.infer({name: values.astype(np.float64) for name, values in obs.items()}, noise.astype(np.float64))
    assert np.array_equal(wide, policy.infer(obs, noise))
    assert np.array_equal(policy.infer(obs, noise.tolist()), wide)


def test_an_observation_that_is_no_mapping_is_explained():
    with pytest.raises(
        SpecError, match=r"The observation is a list, expected a mapping with the fields \['grip', 'where"
    ):
        checked_inputs(SPEC, [1.0], np.zeros((1, 1, 8, 2)), (1, 8, 2), "ddim:3")


def test_not_finite_weights_are_never_saved(tmp_path):
    policy = make_policy()
    next(policy.denoiser.parameters()).fill_(float("nan"))
    with pytest.raises(ArtifactError, match="not finite; nothing was saved"):
        save_policy(tmp_path / "p", policy)
    assert list(tmp_path.iterdir()) == []


def test_something_else_is_never_overwritten(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    for marker in (None, '{"openapi": "3.1"}', "not JSON"):
        if marker is not None:
            (tmp_path / "notes" / "spec.json").write_text(marker)  # others have files of that name too
        with pytest.raises(ArtifactError, match="not a policy folder; it is left alone"):
            save_policy(tmp_path / "notes", make_policy())
    assert (tmp_path / "notes" / "thesis.txt").exists()


def test_saving_again_replaces_the_artifact(saved):
    save_policy(saved, replace(make_policy(), sampler=Ddim(5)))
    assert load_policy(saved).sampler == Ddim(5)
    assert [path.name for path in saved.parent.iterdir()] == ["teacher"]


def test_full_disk_leaves_the_old_artifact_and_no_rest(saved):
    """A real limit on the size of files, in a process of its own."""
    code = (
        "import resource, signal; from pathlib import Path\n"
        "from onedp.policy_test import make_policy; from onedp.policy import save_policy\n"
        "from onedp.errors import OneDPError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"try: save_policy(Path({str(saved)!r}), make_policy())\n"
        "except OneDPError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert "could not be written" in done.stdout
    assert "Free some space" in done.stdout
    load_policy(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["teacher"]


def test_kill_while_saving_leaves_nothing_under_the_final_name(tmp_path):
    """kill -9 in the middle of a save."""
    code = (
        "import sys, time; from pathlib import Path; from onedp.files import recover_folder, replaced_folder\n"
        f"with replaced_folder(Path({str(tmp_path / 'p')!r})) as folder:\n"
        "    (folder / 'spec.json').write_text('{'); print('half', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ)
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.05)
    assert not (tmp_path / "p").exists()
    with replaced_folder(tmp_path / "p") as folder:  # and the next save is not disturbed by the rest
        (folder / "spec.json").write_text("{}")
    assert (tmp_path / "p" / "spec.json").exists()


def test_kill_between_the_two_renames_loses_nothing(saved):
    """The old folder has been renamed away, the new one has not got the name yet."""
    os.replace(saved, saved.parent / ".teacher.abc.old")
    recover_folder(saved)
    load_policy(saved)
    shutil.copytree(saved, saved.parent / ".teacher.abc.old")  # killed after both renames: the old one only goes
    recover_folder(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["teacher"]
