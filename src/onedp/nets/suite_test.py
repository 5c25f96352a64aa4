"""Every network with every encoder: trains as a teacher of both processes, is distilled by every method of the table,
is saved and loaded bit for bit, answers, and is exported. Through the functions that the verbs call.
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
import pytest
from safetensors.numpy import load_file

from onedp.backends import load_backend
from onedp.errors import OneDPError
from onedp.export.export import export_policy
from onedp.methods.config import DenoisingConfig, EmaConfig, MethodConfig, OptimizerConfig
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.presets import fitted
from onedp.methods.student_config import ProgressiveConfig
from onedp.methods.table import METHODS, method_names, recipe
from onedp.nets.config import (
    ActConfig,
    DitConfig,
    EncoderConfig,
    ImageEncoderConfig,
    MlpConfig,
    NetworkConfig,
    PointEncoderConfig,
    StateEncoderConfig,
    UnetConfig,
)
from onedp.policy import TorchPolicy, load_policy
from onedp.tasks import Task
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.run import distill_student, resume_run, train_teacher
from onedp.types import FieldSpec, PolicySpec, episode_noise

ACTION = FieldSpec("action", (2,), "m")
POSE = FieldSpec("pose", (3,), "m")


def task(name: str, *observations: FieldSpec) -> Task:
    """A task without a simulator whose data sets hold its own fields."""

    def none(*_: object) -> NoReturn:
        raise NotImplementedError

    spec = PolicySpec(observations, ACTION, (-1.0, -1.0), (1.0, 1.0), rate_hz=10.0, horizon=4, n_action_steps=2)
    return Task(name, spec, none, none, ("unused",), 10, "made up")


STATE = task("state", POSE, FieldSpec("grip", (1,), "m"))
CAMERAS = task(
    "cameras", FieldSpec("top", (20, 18, 3), "1", "uint8"), POSE, FieldSpec("side", (20, 18, 3), "1", "uint8")
)
POINTS = task("points", FieldSpec("cloud", (9, 3), "m"), POSE, FieldSpec("colours", (7, 6), "m"))
GOAL = task("goal", POSE, FieldSpec("wish", (3,), "m", goal_of="pose"))
TASKS = task("tasks", FieldSpec("which", (1,), "1", "int64", classes=3), POSE)

LIGHT = ImageEncoderConfig(backbone="light", keypoints=4, crop=(16, 16))
SHARED = ImageEncoderConfig(backbone="light", keypoints=4, pool="average", shared=True)
EYES: dict[str, tuple[str, EncoderConfig]] = {
    "state": ("STATE", StateEncoderConfig()),
    "light": ("CAMERAS", LIGHT),
    "light-shared": ("CAMERAS", SHARED),
    "points": ("POINTS", PointEncoderConfig(widths=(8, 16), features=8)),
    "goal": ("GOAL", StateEncoderConfig()),
    "tasks": ("TASKS", StateEncoderConfig()),
}
"""Kinds of observations: the task (a name of this module) and the encoder."""
NETWORKS: dict[str, NetworkConfig] = {
    "unet": UnetConfig(channels=(8, 16), step_embed_dim=8, kernel_size=3, n_groups=4),
    "mlp": MlpConfig(width=16, blocks=1, step_embed_dim=8),
    "dit": DitConfig(width=16, blocks=2, heads=2, step_embed_dim=8),
}
ACT_NETWORK = ActConfig(width=16, heads=2, expansion=2, encoder_blocks=1, decoder_blocks=1, latent_dim=4)

EYES["resnet18"] = ("CAMERAS", ImageEncoderConfig(crop=(16, 16)))

PROCESSES = ("ddpm", "edm", "flow")
FAST = [(network, "state", process) for network in NETWORKS for process in ("ddpm", "edm")]
FAST += [("mlp", eyes, "ddpm") for eyes in EYES if eyes not in ("state", "resnet18")]
"""Every network and every encoder at least once."""
ALL = [(network, eyes, process) for network in NETWORKS for eyes in EYES for process in PROCESSES]
REST = [case for case in ALL if case not in FAST and (case[1] != "resnet18" or case[0] == "mlp")]
"""Every pair; ResNet-18 is large, so it meets one network only."""

LOOP = LoopConfig(steps=2, batch_size=4, log_every=1, diagnose_every=9, checkpoint_every=9, cpu=True, threads=1)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set for each task: two episodes of six steps."""
    folder, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    for each in (STATE, CAMERAS, POINTS, GOAL, TASKS):
        fields = [field for field in (*each.spec.observations, ACTION) if field.goal_of is None]
        arrays = {field.name: field.fake((12, *field.shape), rng) for field in fields}
        arrays["action"] = np.tanh(arrays["action"])  # inside the limits
        np.savez(folder / f"{each.name}.npz", **arrays, episode_ends=np.array([6, 12]))
    return folder


def teacher_run(recordings: Path, eyes: str, network: NetworkConfig, method) -> TeacherRun:
    name, encoder = EYES[eyes]
    data = recordings / f"{globals()[name].name}.npz"
    return TeacherRun(f"{__name__}:{name}", data, method, network, LOOP, encoder=encoder)


def observe(policy: TorchPolicy, batch: int):
    obs = policy.spec.fake_observation(batch, np.random.default_rng(batch))
    return obs, np.stack([episode_noise(row, 0, policy.noise_shape) for row in range(batch)])


def check_saved(policy: TorchPolicy | None, out: Path) -> TorchPolicy:
    """The folder holds exactly the policy that training returned; the loaded one answers."""
    assert policy is not None
    loaded = load_policy(out)
    stored = load_file(out / "policy" / "weights.safetensors")
    trained = policy.denoiser.state_dict()
    assert set(stored) == set(trained) == set(loaded.denoiser.state_dict())
    for name, value in loaded.denoiser.state_dict().items():
        assert np.array_equal(trained[name].numpy(), stored[name])
        assert np.array_equal(value.numpy(), stored[name])
    assert loaded.encoder == policy.encoder
    assert loaded.network == policy.network
    obs, noise = observe(loaded, 3)
    chunk = loaded.infer(obs, noise)
    assert chunk.shape == (3, 3, 2)
    assert np.array_equal(replace(loaded, seen=None).infer(obs, noise), policy.infer(obs, noise))
    np.testing.assert_allclose(chunk, policy.infer(obs, noise), atol=1e-5)  # frames one by one round otherwise
    return loaded


def check_exported(out: Path, name: Path) -> None:
    """ONNX, the parity check of every runtime included; other inputs than those of that check here."""
    policy = load_policy(out)
    export_policy(out, "onnx", name)
    exported = load_backend(name, "onnxruntime")
    obs, noise = observe(policy, 3)
    np.testing.assert_allclose(exported.infer(obs, noise), policy.infer(obs, noise), atol=2e-4 * policy.nfe)


def short(method: str) -> MethodConfig:
    """The method's recipe for two steps."""
    config = fitted(recipe(method), LOOP.steps)
    return dataclasses.replace(config, first_steps=4) if isinstance(config, ProgressiveConfig) else config


def train_and_check(
    tmp_path: Path, recordings: Path, network: str, eyes: str, process: Literal["ddpm", "edm", "flow"]
) -> TeacherRun:
    run = teacher_run(recordings, eyes, NETWORKS[network], DenoisingConfig(process=process))
    check_saved(train_teacher(run, tmp_path / "teacher"), tmp_path / "teacher")
    return run


def distil_and_check(tmp_path: Path, run: TeacherRun, method: str) -> TorchPolicy:
    out = tmp_path / method
    student = StudentRun(str(tmp_path / "teacher"), run.data, short(method), LOOP)
    policy = check_saved(distill_student(student, out), out)
    before, after = (load_file(folder / "policy" / "weights.safetensors") for folder in (tmp_path / "teacher", out))
    same = set(after) == set(before) and all(np.array_equal(after[name], before[name]) for name in after)
    assert not same, f"{method} left the teacher as it was"
    return policy


def check_one_step_student(tmp_path: Path, run: TeacherRun) -> None:
    assert distil_and_check(tmp_path, run, "onedp-s").nfe == 1
    check_exported(tmp_path / "onedp-s", tmp_path / "exported")


@pytest.mark.parametrize(("network", "eyes", "process"), FAST)
def test_trains_distils_saves_loads_acts_and_exports(tmp_path, recordings, network, eyes, process):
    run = train_and_check(tmp_path, recordings, network, eyes, process)
    check_one_step_student(tmp_path, run)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "eyes", "process"), REST)
def test_so_does_every_other_pair(tmp_path, recordings, network, eyes, process):
    run = train_and_check(tmp_path, recordings, network, eyes, process)
    check_one_step_student(tmp_path, run)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "eyes", "process"), [case for case in ALL if case[1] != "resnet18"])
def test_every_method_distils_every_pair(tmp_path, recordings, network, eyes, process):
    run = train_and_check(tmp_path, recordings, network, eyes, process)
    for method in method_names(teacher=True):
        if method != "onedp-s":
            distil_and_check(tmp_path, run, method)


@pytest.mark.parametrize(
    "eyes", [eyes if eyes == "state" else pytest.param(eyes, marks=pytest.mark.slow) for eyes in EYES]
)
def test_methods_without_a_teacher_train_save_load_act_and_export(tmp_path, recordings, eyes):
    for method in method_names(teacher=False) if eyes != "resnet18" else ("act",):
        network = ACT_NETWORK if method == "act" else NETWORKS["dit"]
        run = teacher_run(recordings, eyes, network, short(method))
        policy = check_saved(train_teacher(run, tmp_path / method), tmp_path / method)
        if policy.nfe == 1:
            check_exported(tmp_path / method, tmp_path / f"{method}-exported")


@pytest.mark.parametrize("eyes", ["light", "goal"])
def test_a_killed_run_resumes_to_the_same_policy(tmp_path, recordings, eyes):
    """Crops and goals come from the seed and the step, not from how often the run was begun."""
    run = teacher_run(recordings, eyes, NETWORKS["dit"], DenoisingConfig())
    whole = train_teacher(run, tmp_path / "whole" / "run")
    assert train_teacher(run, tmp_path / "parts" / "run", stop_after=1) is None
    parts = resume_run(tmp_path / "parts" / "run", "TeacherRun")
    assert whole is not None
    assert parts is not None
    ours, theirs = whole.denoiser.state_dict(), parts.denoiser.state_dict()
    assert {name for name in ours if not np.array_equal(ours[name], theirs[name])} == set()


def test_networks_and_methods_that_do_not_fit_are_refused(tmp_path, recordings):
    run = teacher_run(recordings, "state", ACT_NETWORK, DenoisingConfig())
    with pytest.raises(OneDPError, match=r"'act' is no denoiser; only the method act trains it: --method act --netw"):
        train_teacher(run, tmp_path / "a")
    run = teacher_run(recordings, "state", NETWORKS["dit"], METHODS["act"].preset.config)
    with pytest.raises(OneDPError, match=r"trains a network of its own\. Use --network act"):
        train_teacher(run, tmp_path / "b")


@pytest.mark.slow
def test_a_policy_goes_where_its_goal_is(tmp_path):
    """Walks on a line; whoever is asked to go left goes left, and right when asked to go right."""
    rng = np.random.default_rng(0)
    action = np.repeat(rng.choice([-0.5, 0.5], 60), 8)[:, None] * np.array([1.0, 0.0])
    pose = np.zeros((480, 3))
    for start in range(0, 480, 8):
        pose[start : start + 8, 0] = np.cumsum(np.r_[0, action[start : start + 7, 0]])
    np.savez(tmp_path / "walks.npz", pose=pose.astype(np.float32), action=action, episode_ends=np.arange(8, 481, 8))
    loop = LoopConfig(steps=250, batch_size=64, log_every=250, diagnose_every=250, checkpoint_every=250, cpu=True)
    optimizer = OptimizerConfig(lr=3e-3, warmup_steps=10, decay="cosine", clip_norm=1.0)
    method = DenoisingConfig(process="edm", optimizer=optimizer, ema=EmaConfig(max_decay=0.98))
    network = MlpConfig(width=64, blocks=2, step_embed_dim=16)
    run = TeacherRun(f"{__name__}:GOAL", tmp_path / "walks.npz", method, network, loop)
    teacher = train_teacher(run, tmp_path / "teacher")
    matching = OptimizerConfig(lr=1e-5, betas=(0.0, 0.999))
    config = OneDpConfig(generator=matching, tracker=matching, regression_steps=240, regression_pairs=500)
    student = distill_student(StudentRun(str(tmp_path / "teacher"), run.data, config, loop), tmp_path / "student")
    for policy in (teacher, student):
        assert policy is not None
        obs, noise = observe(policy, 20)
        obs = {name: np.zeros_like(values) for name, values in obs.items()}
        for side in (-1, 1):
            obs["wish"][:, :, 0] = 2.0 * side
            chunk = policy.infer(obs, noise)
            assert (side * chunk[:, 0, 0] > 0.2).mean() > 0.9, policy.name
