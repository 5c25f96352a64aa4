"""What every importer gives, and how it becomes a policy of ours: names, order of the condition, limits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from onedp.artifact import misfit
from onedp.data.config import NormalizationMode
from onedp.data.normalize import STATISTICS, FieldStats, Normalizer
from onedp.diffusion.sampler_table import check_sampler
from onedp.diffusion.samplers import Ddim, Ddpm
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import CheckpointError, OneDPError, did_you_mean
from onedp.nets.build import build_denoiser
from onedp.nets.config import EncoderConfig, UnetConfig
from onedp.nets.fields_encoder import FieldsEncoder
from onedp.policy import TorchPolicy
from onedp.tasks import Task
from onedp.types import FieldSpec, PolicySpec


@dataclass(frozen=True)
class Scaling:
    """How one field is normalised."""

    mode: NormalizationMode
    stats: FieldStats


@dataclass(frozen=True)
class Imported:
    """A foreign policy in our terms, with the checkpoint's own names."""

    observations: tuple[FieldSpec, ...]
    """In the order in which the network's condition holds them within each step."""
    action: FieldSpec
    horizon: int
    n_obs_steps: int
    n_action_steps: int
    scaling: Mapping[str, Scaling]
    network: UnetConfig
    encoder: EncoderConfig
    schedule: CosineDdpm
    parameterization: str
    sampler: Ddim
    weights: Mapping[str, Tensor]
    """By our names."""
    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    """What a user should know, one sentence each."""
    has_action_range: bool = True
    """Whether the smallest and largest action are known (and not derived from mean and deviation)."""


@dataclass(frozen=True)
class _Piece:
    """A field of ours and where it comes from: a part of one of theirs."""

    theirs: str
    start: int
    ours: FieldSpec


def to_policy(
    imported: Imported,
    name: str,
    task: Task | None,
    task_name: str = "",
    renames: Sequence[str] = (),
    rate_hz: float | None = None,
) -> TorchPolicy:
    """The policy; ``task_name`` is how the ``task`` is called on the command line.

    ``renames`` are ``THEIRS=OURS``, or ``THEIRS=A,B`` to cut a vector into fields of the task, whose fields, limits and
    rate are taken. Raises ``CheckpointError`` when weights, fields or limits do not fit.
    """
    pieces = _pieces(imported, task, _parse_renames(renames, [field.name for field in imported.observations]))
    spec = _spec(imported, pieces, task, rate_hz)
    ordered = [next(piece for piece in pieces if piece.ours.name == field.name) for field in spec.observations]
    scaling = {piece.ours.name: _part(imported.scaling[piece.theirs], piece) for piece in pieces}
    scaling[spec.action.name] = imported.scaling[imported.action.name]
    parts = (imported.network, spec, imported.schedule, imported.parameterization, imported.encoder)
    try:
        with torch.device("meta"):  # a mistyped width is known before it is allocated
            expected = {key: tuple(value.shape) for key, value in build_denoiser(*parts).state_dict().items()}
    except RuntimeError as error:
        raise CheckpointError(f"The configuration's sizes fit no machine: {imported.network}.") from error
    if problem := misfit({key: tuple(value.shape) for key, value in imported.weights.items()}, expected):
        raise CheckpointError(
            f"The checkpoint's weights do not fit its configuration (names as onedp has them): {problem}."
        )
    if bad := [key for key, value in imported.weights.items() if not value.isfinite().all()]:
        raise CheckpointError(f"The checkpoint's weights {bad[:3]} are not finite (names as onedp has them).")
    denoiser = build_denoiser(*parts)
    check_sampler(imported.sampler, imported.schedule)
    assert isinstance(denoiser.encoder, FieldsEncoder)
    denoiser.load_state_dict(_reordered(imported, pieces, ordered, denoiser.encoder))
    return TorchPolicy(
        name=name,
        spec=spec,
        task=task_name,
        denoiser=denoiser.requires_grad_(False).eval(),
        sampler=imported.sampler,
        normalizer=Normalizer(
            {key: each.stats for key, each in scaling.items()}, {key: each.mode for key, each in scaling.items()}
        ),
        network=imported.network,
        provenance={**imported.provenance, "notes": list(imported.notes), "renamed": list(renames)},
        device=torch.device("cpu"),
        encoder=imported.encoder,
    )


def _parse_renames(renames: Sequence[str], theirs: list[str]) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for text in renames:
        name, equals, ours = text.partition("=")
        if not equals or not ours or name in table:
            raise OneDPError(f"--rename {text} is not possible. Expected THEIRS=OURS, each of theirs once.")
        if name not in theirs:
            raise OneDPError(
                f"--rename {text}: the checkpoint has no observation '{name}'.{did_you_mean(name, theirs)} "
                f"It has {', '.join(theirs)}."
            )
        table[name] = ours.split(",")
    return table


def _pieces(imported: Imported, task: Task | None, renames: Mapping[str, list[str]]) -> list[_Piece]:
    known = {} if task is None else {field.name: field for field in task.spec.observations}
    pieces = []
    for field in imported.observations:
        names = renames.get(field.name, [field.name])
        if len(names) == 1:
            pieces.append(_Piece(field.name, 0, known.get(names[0], replace(field, name=names[0]))))
            if pieces[-1].ours.shape != field.shape or pieces[-1].ours.is_image != field.is_image:
                raise _does_not_fit(imported, task)
            continue
        if task is None or field.is_image or not set(names) <= set(known):
            raise OneDPError(
                f"'{field.name}' can only be cut into observations of a task (--task), of which {names} are not all."
            )
        start = 0
        for name in names:
            pieces.append(_Piece(field.name, start, known[name]))
            start += known[name].size
        if start != field.size or any(len(known[name].shape) != 1 for name in names):
            raise OneDPError(f"'{field.name}' has {field.size} numbers, {names} together have {start}.")
    if task is not None and sorted(piece.ours.name for piece in pieces) != sorted(known):
        raise _does_not_fit(imported, task)
    return pieces


def _does_not_fit(imported: Imported, task: Task | None) -> CheckpointError:
    theirs = ", ".join(f"{field.name} {field.shape}" for field in imported.observations)
    ours = "" if task is None else ", ".join(f"{field.name} {field.shape}" for field in task.spec.observations)
    return CheckpointError(
        f"The checkpoint observes {theirs}; the task '{task.name if task else ''}' has {ours}. Say what is what with "
        "--rename THEIRS=OURS; the shapes must agree."
    )


def _spec(imported: Imported, pieces: list[_Piece], task: Task | None, rate_hz: float | None) -> PolicySpec:
    timing: dict[str, Any] = {
        "horizon": imported.horizon,
        "n_obs_steps": imported.n_obs_steps,
        "n_action_steps": imported.n_action_steps,
    }
    if task is not None:
        if task.spec.action.shape != imported.action.shape:
            raise CheckpointError(
                f"The checkpoint's action has the shape {imported.action.shape}, that of the task '{task.name}' has "
                f"{task.spec.action.shape}."
            )
        return replace(task.spec, rate_hz=task.spec.rate_hz if rate_hz is None else rate_hz, **timing)
    if rate_hz is None:
        raise OneDPError("The checkpoint does not say how often it acts. Give --rate-hz, or the --task it belongs to.")
    if not imported.has_action_range:
        raise CheckpointError(
            "The checkpoint has no 'min' and 'max' of the action, which limit what the policy may do. Give the --task "
            "it belongs to: its limits are then taken."
        )
    stats = imported.scaling[imported.action.name].stats
    return PolicySpec(
        observations=tuple(piece.ours for piece in pieces),
        action=imported.action,
        action_low=tuple(stats.min.tolist()),
        action_high=tuple(stats.max.tolist()),
        rate_hz=rate_hz,
        **timing,
    )


def _part(scaling: Scaling, piece: _Piece) -> Scaling:
    if piece.ours.is_image:
        return scaling
    parts = (
        getattr(scaling.stats, name).reshape(-1)[piece.start : piece.start + piece.ours.size] for name in STATISTICS
    )
    return replace(scaling, stats=FieldStats(*(part.reshape(piece.ours.shape) for part in parts)))


def _reordered(
    imported: Imported, pieces: list[_Piece], ordered: list[_Piece], encoder: FieldsEncoder
) -> dict[str, Tensor]:
    """Weights with the condition's columns, and the cameras' encoders, in the order of our spec."""
    sizes = [encoder.encoded_size(piece.ours) for piece in pieces]
    starts = dict(zip([piece.ours.name for piece in pieces], np.cumsum([0, *sizes]).tolist(), strict=False))
    one_step = np.concatenate(
        [starts[piece.ours.name] + np.arange(encoder.encoded_size(piece.ours)) for piece in ordered]
    )
    embedding, width = imported.network.step_embed_dim, sum(sizes)
    steps = [embedding + step * width + one_step for step in range(imported.n_obs_steps)]
    columns = torch.from_numpy(np.concatenate([np.arange(embedding), *steps]))
    cameras = [piece.ours.name for piece in pieces if piece.ours.is_image]
    places = {
        str(cameras.index(name)): str(i) for i, name in enumerate(p.ours.name for p in ordered if p.ours.is_image)
    }
    shared = getattr(imported.encoder, "shared", False)
    weights = {}
    for key, value in imported.weights.items():
        if re.fullmatch(r"backbone\..*\.cond_encoder\.1\.weight", key):
            value = value[:, columns]
        if not shared and (match := re.match(r"(encoder\.rgb_encoder\.)(\d+)(\..*)", key)):
            key = match[1] + places[match[2]] + match[3]
        weights[key] = value.float()
    return weights


def affine(scale: ndarray, offset: ndarray, low: ndarray, high: ndarray) -> Scaling:
    """The scaling ``x * scale + offset``, whatever its name elsewhere, with the data's range ``low`` to ``high``."""
    if not (np.isfinite(scale).all() and np.isfinite(offset).all() and (scale > 0).all()):
        raise CheckpointError("A normalisation of the checkpoint has a scale that is not above 0 or not finite.")
    mean, std = (-offset / scale, 1 / scale)
    return Scaling("mean_std", field_stats(low, wider(low, high), mean, std))


def wider(low: ndarray, high: ndarray) -> ndarray:
    """``high``, raised where it equals ``low``: no width would make our normaliser take a dimension for constant."""
    return np.where(high - low < 1e-5, low + 1e-3 * np.maximum(1, np.abs(low)), high)


def field_stats(low: ndarray, high: ndarray, mean: ndarray, std: ndarray) -> FieldStats:
    """Statistics in the type that artifacts hold."""
    return FieldStats(*(np.asarray(part, dtype=np.float32) for part in (low, high, mean, std)))


def make_sampler(
    kind: str, steps: int | None, total: int, clip: float | None, z_scores: bool
) -> tuple[Ddim, tuple[str, ...]]:
    """diffusers' DDPM or DDIM as one of ours, and notes; z-scores are never clipped: they leave [-1, 1]."""
    notes: tuple[str, ...] = ()
    if z_scores and clip is not None:
        notes = (
            f"The checkpoint asks for clipping to +-{clip:g} at each step, but its actions are not scaled to [-1, 1]; "
            "the sampler of the imported policy does not clip.",
        )
        clip = None
    steps = total if steps is None else steps
    spacing = "linspace" if steps == total else "leading"  # the same when every step is visited
    if kind == "DDPM":
        return Ddpm(steps, clip, spacing), notes
    return Ddim(steps, clip, "leading", recompute_eps=False), notes
