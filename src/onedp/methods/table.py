"""The table of methods: what ``onedp train --method`` and ``onedp distill --method`` can do. Torch-free.

A method is one file in this folder (its losses and a function ``build``), a config in ``config.py`` or beside it, and
one line here.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onedp.errors import OneDPError, unknown_choice
from onedp.methods import presets
from onedp.methods.config import MethodConfig
from onedp.methods.presets import Preset


@dataclass(frozen=True)
class MethodEntry:
    """One method of the command line."""

    summary: str
    """What it is, in a few words."""
    builder: str
    """``module:function`` that makes the ``Method`` of a config and a ``Setting``; imported when a run starts."""
    preset: Preset
    """Its recipe for networks of a few million weights, and the budget that it was made for."""
    teacher: bool = True
    """Distils a teacher; False: trains on demonstrations alone."""
    presets: Mapping[str, Preset] = field(default_factory=dict)
    """Other recipes by name."""
    by_process: Mapping[str, Preset] = field(default_factory=dict)
    """What ``preset`` is for a teacher of another noise process, where that makes a difference."""
    measured: tuple[str, ...] = ("ddpm", "edm")
    """Noise processes of the teachers that the recipe was tried on."""


_ONEDP = "onedp.methods.onedp:build"
_DENOISING = "onedp.methods.denoising:build"

METHODS: dict[str, MethodEntry] = {
    # without a teacher
    "denoising": MethodEntry("diffusion policy, the teacher", _DENOISING, presets.DENOISING, False),
    "flow-matching": MethodEntry("flow policy, ten Euler steps", _DENOISING, presets.FLOW_MATCHING, False),
    "cloning": MethodEntry("mean squared error, one pass", "onedp.methods.cloning:build", presets.CLONING, False),
    "mip": MethodEntry("regression in two steps, two passes", "onedp.methods.mip:build", presets.MIP, False),
    "meanflow": MethodEntry("average velocities, one pass", "onedp.methods.meanflow:build", presets.MEANFLOW, False),
    "act": MethodEntry("ACT, a VAE without diffusion", "onedp.methods.act:build", presets.ACT, False),
    # from a teacher
    "onedp": MethodEntry(
        "the default: OneDP-S for twice the steps, by the teacher's process",
        _ONEDP,
        presets.ONEDP,
        presets={"paper": presets.ONEDP_S_PAPER},
        by_process={"edm": presets.ONEDP_EDM},
        measured=("ddpm", "edm", "flow"),  # of flow as it is, not tuned (results/pusht-bench/flow-students)
    ),
    "onedp-s": MethodEntry(
        "stochastic, keeps the teacher's modes", _ONEDP, presets.ONEDP_S, presets={"paper": presets.ONEDP_S_PAPER}
    ),
    "onedp-d": MethodEntry(
        "deterministic, half the cost a step", _ONEDP, presets.ONEDP_D, presets={"paper": presets.ONEDP_D_PAPER}
    ),
    "onedp-d-annealed": MethodEntry("onedp-d with a falling upper noise level", _ONEDP, presets.ONEDP_D_ANNEALED),
    "onedp-s-normalized": MethodEntry("onedp-s with DMD's normalised gradient", _ONEDP, presets.ONEDP_S_NORMALIZED),
    "onedp-s-adversarial": MethodEntry("onedp-s with a critic", _ONEDP, presets.ONEDP_S_ADVERSARIAL),
    "sid": MethodEntry("onedp-s with the Fisher divergence", _ONEDP, presets.SID),
    "regression": MethodEntry("on the teacher's ODE solutions", "onedp.methods.regression:build", presets.REGRESSION),
    "regression-fine": MethodEntry(
        "on more exact solutions, at a higher rate", "onedp.methods.regression:build", presets.REGRESSION_FINE
    ),
    "going-on": MethodEntry(
        "regression that learns real-time chunking too: one pass goes on from the chunk before",
        "onedp.methods.going_on:build",
        presets.GOING_ON,
    ),
    "consistency": MethodEntry("consistency distillation", "onedp.methods.consistency:build", presets.CONSISTENCY),
    "consistency-policy": MethodEntry("CTM and DSM", "onedp.methods.trajectory:build", presets.TRAJECTORY),
    "progressive": MethodEntry("halvings from 64 steps to 1", "onedp.methods.progressive:build", presets.PROGRESSIVE),
    "gaussian": MethodEntry("Gaussian policy, OneDP's loss", "onedp.methods.gaussian:build", presets.GAUSSIAN),
}
"""Name to method."""


def method_names(teacher: bool) -> tuple[str, ...]:
    """Methods of ``onedp distill`` (``teacher``) or of ``onedp train``."""
    return tuple(name for name, entry in METHODS.items() if entry.teacher == teacher)


def method_help(teacher: bool) -> str:
    """The names with their summaries, for ``--help``."""
    return "; ".join(f"{name}: {METHODS[name].summary}" for name in method_names(teacher)) + "."


def method_entry(name: str, teacher: bool) -> MethodEntry:
    """The line ``name``; raises ``OneDPError`` when there is none or the other verb runs it."""
    valid = method_names(teacher)
    if name in METHODS and name not in valid:
        verb = "train" if teacher else "distill"
        raise OneDPError(f"The method '{name}' is one of another verb: onedp {verb} --method {name}")
    if name not in METHODS:
        raise OneDPError(unknown_choice("method", name, valid))
    return METHODS[name]


def recipe(name: str, preset: str = "small", process: str | None = None) -> Preset:
    """The recipe ``preset`` of the method ``name`` for a teacher of the noise process ``process`` (None: DDPM).

    Raises ``OneDPError`` when method or preset does not exist.
    """
    if name not in METHODS:
        raise OneDPError(unknown_choice("method", name, METHODS))
    entry = METHODS[name]
    recipes = {"small": entry.by_process.get(process or "", entry.preset), **entry.presets}
    if preset not in recipes:
        raise OneDPError(unknown_choice(f"preset of {name}", preset, recipes))
    return recipes[preset]


LATER = {
    "regression_weight": 0.0,
    "warm_start": "regression",
    "matching_noise": "whole",
    "noise_gain_lr": 0.01,
    "pair_noise_scale": 1.0,
    "unexecuted_weight": 1.0,
    "level_power": 0.0,
}
"""Fields that configs got after results with them were kept, and what they are in those: left out where they are that,
so that what was finished before is found."""


def recipe_note(name: str, process: str) -> str | None:
    """What to know of the recipe of the method ``name`` for teachers of a noise process; None: nothing."""
    if process in METHODS[name].measured:
        return None
    return f"No recipe of {name} was measured for teachers of the process '{process}'; it takes that for DDPM teachers."


def build_method(config: MethodConfig, setting: Any) -> Any:
    """The ``Method`` of a config for the ``Setting`` of a run. Imports torch."""
    builders = {entry.builder for entry in METHODS.values() if entry.preset.config.kind == config.kind}
    if len(builders) != 1:
        raise OneDPError(f"The method '{config.kind}' is not in the table of methods.")
    module, _, function = builders.pop().partition(":")
    return getattr(importlib.import_module(module), function)(config, setting)


def method_to_json(config: MethodConfig) -> dict[str, Any]:
    """Plain data for ``run.json``."""
    values = {"kind": config.kind, **dataclasses.asdict(config)}  # type: ignore[call-overload]
    return {name: value for name, value in values.items() if name not in LATER or value != LATER[name]}


def method_identity(config: MethodConfig) -> dict[str, Any]:
    """What tells a method's results from another's: its plain data, and the revision of a formula that changed."""
    revised = {"normalized_gradient": 2} if getattr(config, "normalize_gradient", False) else {}
    return {**method_to_json(config), **revised}


def method_from_json(data: Mapping[str, Any], default_kind: str) -> MethodConfig:
    """Inverts ``method_to_json``; runs of before the table say no kind. Raises ``OneDPError``, or dacite's errors."""
    import dacite  # not in the base installation, which --help must do with

    configs = {entry.preset.config.kind: type(entry.preset.config) for entry in METHODS.values()}
    kind = data.get("kind", default_kind)
    if kind not in configs:
        raise OneDPError(unknown_choice("method", kind, configs))
    options = {key: value for key, value in data.items() if key != "kind"}
    return dacite.from_dict(configs[kind], options, dacite.Config(cast=[tuple], strict=True))
