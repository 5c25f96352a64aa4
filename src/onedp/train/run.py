"""Whole runs: demonstrations to a teacher, a teacher to a one-step student. What the verbs train and distill call."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dacite
import torch

from onedp.artifact import read_manifest
from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.few_step_samplers import Consistency
from onedp.diffusion.schedule import NoiseSchedule, schedule_from_json
from onedp.errors import OneDPError, TrainingError
from onedp.files import recover_folder, write_json
from onedp.machine import command_line, cpu_name
from onedp.methods.config import MethodConfig
from onedp.methods.method import Method, Setting
from onedp.methods.table import build_method, method_from_json
from onedp.nets.build import build_denoiser, encoder_from_json
from onedp.nets.config import NetworkConfig
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.tasks.demonstrations import demonstration_warnings
from onedp.tasks.recorded import RECORDED, recorded_config
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.data import data_provenance, student_observations, teacher_data
from onedp.train.loop import has_ended, make_accelerator, result_network, run_training
from onedp.train.metrics import last_diagnostics
from onedp.train.run_options import run_from_anywhere, run_identity
from onedp.train.solver import solver
from onedp.train.state import TrainState
from onedp.train.stopping import best_so_far
from onedp.train.windows import window_tensors

MOVED_ENOUGH = 1e-3
"""Root-mean-square change of the student's normalised actions below which distillation did next to nothing."""


def train_teacher(
    run: TeacherRun, out: Path, resume: bool = False, stop_after: int | None = None
) -> TorchPolicy | None:
    """Train without a teacher and save the policy at ``out/policy``; None when stopped early by ``stop_after``."""
    accelerator = make_accelerator(run.loop, out)
    with accelerator.main_process_first():  # who writes the frame cache
        data = teacher_data(run)
    task, episodes = data.task, data.episodes
    _warn(demonstration_warnings(episodes, task.spec))
    network = network_for(run.method, run.network)

    def untrained(schedule: NoiseSchedule, parameterization: str) -> Denoiser:
        return build_denoiser(network, task.spec, schedule, parameterization, data.encoder)

    torch.manual_seed(run.loop.seed)
    clip = 1.0 if run.normalization == "min_max" else None
    method = build_method(run.method, Setting(run.loop.steps, clip, untrained))
    policy = TorchPolicy(
        name=out.name,
        spec=task.spec,
        task="" if run.task == RECORDED else run.task,
        denoiser=method.networks[method.result],
        sampler=method.sampler(),
        normalizer=data.normalizer,
        network=network,
        provenance=data_provenance(episodes, run.recorded if run.task == RECORDED or run.recorded.fields else None),
        device=accelerator.device,
        encoder=data.encoder,
    )
    return _run(method, data.windows, run, run.loop, out, policy, accelerator, resume, stop_after)


def distill_student(
    run: StudentRun, out: Path, resume: bool = False, stop_after: int | None = None
) -> TorchPolicy | None:
    """Distil a student and save it at ``out/policy``; None when stopped early. Only observations are used."""
    accelerator = make_accelerator(run.loop, out)
    teacher = load_policy(run.teacher, device=str(accelerator.device))
    if teacher.nfe == 1 or isinstance(teacher.sampler, Consistency):
        raise TrainingError(f"{run.teacher} is a one-step student itself; distil from its teacher.")
    with accelerator.main_process_first():
        episodes = student_observations(run, teacher)
    data = window_tensors(episodes, teacher.spec, teacher.normalizer, teacher.encoder.training_crop)
    network = network_for(run.method, run.network or teacher.network)

    def untrained(schedule: NoiseSchedule, parameterization: str) -> Denoiser:
        return build_denoiser(network, teacher.spec, schedule, parameterization, teacher.encoder).to(teacher.device)

    sampler = solver(teacher, run.method)
    same = network == network_for(run.method, teacher.network)
    setting = Setting(
        run.loop.steps, sampler.clip, untrained, teacher.denoiser, sampler, same, teacher.spec.executed_steps
    )
    torch.manual_seed(run.loop.seed)
    method = build_method(run.method, setting)
    policy = dataclasses.replace(
        teacher,
        name=out.name,
        sampler=method.sampler(),
        network=network,
        seen=None,  # the teacher's features are not the student's
        provenance={
            **data_provenance(episodes, recorded_config(teacher.provenance)),
            "teacher": {
                "name": teacher.name,
                "weights_digest": teacher.provenance.get("weights_digest"),
                "training_seconds": teacher.provenance.get("training_seconds"),
            },
        },
    )
    return _run(method, data, run, run.loop, out, policy, accelerator, resume, stop_after)


def _run(
    method: Method,
    data: Any,
    run: TeacherRun | StudentRun,
    loop: LoopConfig,
    out: Path,
    policy: TorchPolicy,
    accelerator: Any,
    resume: bool,
    stop_after: int | None,
) -> TorchPolicy | None:
    best_so_far(method, loop)  # a run that cannot stop as it is told leaves nothing behind
    identity = run_identity(run, policy.provenance)
    started = time.process_time()
    if accelerator.is_main_process and not resume:
        record = {"kind": type(run).__name__, "run": run_from_anywhere(run), "identity": identity}
        write_json(out / "run.json", {**record, "command": command_line()})

    def save_stage(name: str, state: TrainState) -> None:
        """What has been learnt so far, as a policy beside the final one."""
        if accelerator.is_main_process:
            provenance = {
                **policy.provenance,
                "run": identity,
                "stage": name,
                "stage_step": state.step,
                "training_seconds": state.seconds,
                "cpu_seconds": None if resume else time.process_time() - started,  # of a resume, a part only
            }
            stage = dataclasses.replace(policy, name=name, denoiser=result_network(method, state))
            sampler = method.sampler()
            save_policy(
                out / "stages" / name,
                dataclasses.replace(stage, sampler=sampler, provenance={**provenance, **environment()}),
            )

    state = run_training(method, data, loop, out, identity, accelerator, resume, stop_after, save_stage)
    if state.step < loop.steps and not has_ended(state):
        return None
    accelerator.wait_for_everyone()  # the main process alone writes what all read now
    result = _result(method, state, policy, identity, out, accelerator.num_processes)
    if accelerator.is_main_process:
        save_policy(out / "policy", result)
    accelerator.wait_for_everyone()
    return result


def _result(
    method: Method, state: TrainState, policy: TorchPolicy, identity: Mapping[str, Any], out: Path, processes: int
) -> TorchPolicy:
    """The policy as it was learnt, with its provenance; warns when it hardly moved."""
    diagnostics = last_diagnostics(out / "metrics.jsonl", state.best.step if state.best is not None else None)
    if diagnostics.get("moved", 1.0) < MOVED_ENOUGH:
        warnings.warn(
            f"The student's actions moved by only {diagnostics['moved']:.1e} (normalised) from the undistilled "
            "teacher asked once: the learning rate is too small for this network and step count. Try --preset small, "
            "a larger learning rate or more steps.",
            stacklevel=3,
        )
    provenance = {
        **policy.provenance,
        "run": identity,
        "training_seconds": round(state.seconds, 1),
        "final_diagnostics": diagnostics,
        **({} if state.best is None else {"best_step": state.best.step, "last_step": state.step}),
        "processes": processes,
        **environment(),
        "command": json.loads((out / "run.json").read_text()).get("command", ""),  # of the beginning, not of a resume
    }
    return dataclasses.replace(
        policy, denoiser=result_network(method, state), sampler=method.sampler(), provenance=provenance
    )


def network_for(method: MethodConfig, network: NetworkConfig) -> NetworkConfig:
    """The ``network`` as the ``method`` needs it; raises ``OneDPError`` for one that another method alone can train."""
    own = getattr(network, "only_method", method.kind)
    if own != method.kind:
        raise OneDPError(
            f"The network '{network.kind}' is no denoiser; only the method {own} trains it: --method {own} --network "
            f"{network.kind}."
        )
    return dataclasses.replace(network, **method.network_changes)


def new_run_folder(out: Path) -> None:
    """Raise ``OneDPError`` when ``out`` already holds a run or is not a folder."""
    if out.is_file() or (out / "run.json").exists() or (out / "policy").exists():
        raise OneDPError(f"{out} already holds a run. Continue it with --resume {out}, or choose another --out.")


RUN_KINDS: dict[str, tuple[type, str]] = {"TeacherRun": (TeacherRun, "denoising"), "StudentRun": (StudentRun, "onedp")}
"""Kind of run to its class, and its method where run.json names none (written before there was a table)."""


def resume_run(out: Path, kind: str) -> TorchPolicy | None:
    """Continue the run in ``out`` from its newest checkpoint; raises ``OneDPError`` when it holds no ``kind``."""
    try:
        saved = json.loads((out / "run.json").read_text())
        run_type, default_method = RUN_KINDS[saved["kind"]]
        options = {**saved["run"], "method": method_from_json(saved["run"]["method"], default_method)}
        run: Any = dacite.from_dict(run_type, options, dacite.Config(cast=[tuple, Path], strict=True))
    except (OSError, ValueError, KeyError, dacite.DaciteError) as error:
        raise OneDPError(
            f"{out} holds no run to resume: run.json cannot be read ({error}). Start with --out."
        ) from error
    if saved["kind"] != kind:
        verb = "train" if saved["kind"] == "TeacherRun" else "distill"
        raise OneDPError(f"{out} is a run of the other kind. Continue it with: onedp {verb} --resume {out}")
    recover_folder(out / "checkpoint")
    resume = (out / "checkpoint" / "state.json").exists()
    if not resume:
        print(f"{out} has no checkpoint yet; starting it over.")
    if isinstance(run, TeacherRun):
        return train_teacher(run, out, resume=resume)
    return distill_student(run, out, resume=resume)


def network_weights(network: NetworkConfig, teacher: Path) -> int:
    """Number of weights of a student of another ``network`` than that of the artifact ``teacher``."""
    manifest = read_manifest(teacher)
    schedule = schedule_from_json(dict(manifest.process))
    encoder = encoder_from_json(dict(manifest.encoder))
    denoiser = build_denoiser(network, manifest.spec, schedule, manifest.parameterization, encoder)
    return sum(parameter.numel() for parameter in denoiser.parameters())


def environment() -> dict[str, Any]:
    """Versions and hardware, for provenance."""
    return {
        "cpu": cpu_name(),
        "versions": {
            "onedp": importlib.metadata.version("onedp"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
    }


def _warn(sentences: list[str]) -> None:
    for sentence in sentences:
        warnings.warn(sentence, stacklevel=3)
