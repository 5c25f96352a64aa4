"""Opening what is judged: a policy folder, a shipped policy by name, or an exported folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy import ndarray

from onedp.artifact import resolve_artifact
from onedp.backends import ExportedPolicy, load_backend
from onedp.backends.manifest import is_export, require_own_sampler
from onedp.errors import OneDPError
from onedp.policy import TorchPolicy, load_policy
from onedp.tasks import Task, get_task
from onedp.tasks.recorded import NO_ENVIRONMENT, RECORDED, has_environment, recorded_config
from onedp.types import PolicySpec


@dataclass(frozen=True)
class ExportLabel:
    """What an evaluation asks of a sampler: its name."""

    label: str


@dataclass(frozen=True)
class EvaluatedExport:
    """An export with what an evaluation reads of a policy. Implements the ``Policy`` protocol."""

    exported: ExportedPolicy

    @property
    def name(self) -> str:
        """Policy, runtime and precision: it is another contestant than the policy in PyTorch."""
        precision = self.exported.manifest.precision
        return f"{self.exported.name}-{self.exported.runtime}-{precision}"

    @property
    def spec(self) -> PolicySpec:
        """What goes in and what comes out."""
        return self.exported.spec

    @property
    def task(self) -> str:
        """Of the policy that was exported."""
        return self.exported.manifest.task

    @property
    def sampler(self) -> ExportLabel:
        """The one in the graph."""
        return ExportLabel(self.exported.manifest.sampler)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(draws, Tp, Da)."""
        return self.exported.noise_shape

    @property
    def nfe(self) -> int:
        """Network passes per chunk."""
        return self.exported.nfe

    @property
    def device(self) -> torch.device:
        """Where PyTorch's clock would have to be synchronised: nowhere."""
        return torch.device("cpu")

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Of the policy, with the digest of its weights."""
        manifest = self.exported.manifest
        return {**manifest.provenance, "weights_digest": manifest.weights_digest}

    def infer(self, obs: Mapping[str, Any], noise: Any) -> ndarray:
        """As the export answers."""
        return self.exported.infer(obs, noise)


JudgedPolicy: TypeAlias = TorchPolicy | EvaluatedExport
"""What evaluations and comparisons take."""


def open_policy(name: str, sampler: str | None, device: str = "cpu") -> JudgedPolicy:
    """Raises ``OneDPError`` when there is no such policy, or an export is asked for another sampler or device."""
    if not is_export(Path(name)):
        return load_policy(name, sampler, device)
    exported = load_backend(name)
    if sampler != exported.manifest.sampler:
        require_own_sampler(name, sampler)
    if device != "cpu":
        raise OneDPError(f"{name} is an export, which runs on the CPU. Use --device cpu.")
    return EvaluatedExport(exported)


def task_to_run(policy: JudgedPolicy, name: str | None) -> Task:
    """The task ``name`` (None: the one it was trained on) for roll-outs of ``policy``.

    Raises ``OneDPError`` when there is none, or it has no environment or other fields than the policy.
    """
    if not (name or policy.task):
        if recorded_config(policy.provenance) is not None:
            raise OneDPError(NO_ENVIRONMENT)
        raise OneDPError(f"{policy.name} was imported without a task. Import it again with --task to run it here.")
    if name == RECORDED:
        raise OneDPError(NO_ENVIRONMENT)
    task = get_task(name or policy.task)
    if not has_environment(task):
        raise OneDPError(NO_ENVIRONMENT)
    if task.spec.observations != policy.spec.observations or task.spec.action != policy.spec.action:
        raise OneDPError(
            f"The policy {policy.name} was trained on '{policy.task}' and does not fit the observations or actions of "
            f"'{task.name}'. Run it with --task {policy.task}."
        )
    return task


def policy_path(name: str) -> str:
    """Folder of the policy, for worker processes."""
    return str(Path(name).resolve() if is_export(Path(name)) else resolve_artifact(name))


def parameters_of(policy: JudgedPolicy) -> int:
    """Number of weights."""
    if isinstance(policy, EvaluatedExport):
        return policy.exported.manifest.parameters
    return sum(p.numel() for p in policy.denoiser.parameters())


def action_centre_width(policy: JudgedPolicy) -> tuple[ndarray, ndarray]:
    """float64 pair with ``normalised = (action - centre) / width``, one number a dimension.

    An export knows the width of its policy's normalisation, not the centre, of which differences do not depend: it is
    then near its own actions, for the rounding.
    """
    if isinstance(policy, EvaluatedExport):
        manifest = policy.exported.manifest
        return np.mean(manifest.reference_chunk, axis=0), np.asarray(manifest.action_width)
    return policy.normalizer.centre_width(policy.spec.action.name)
