"""Normalisation of LeRobot's policies: from the processors' files (since 0.4) or from the model file (before).

Pictures are (C, H, W) in [0, 1] there and (H, W, C) of 0 to 255 here; the normalisation holds the difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from onedp.data.normalize import CONSTANT_RANGE
from onedp.errors import CheckpointError
from onedp.importers.imported import Scaling, affine, field_stats, wider
from onedp.importers.options import Options

MODES = ("MIN_MAX", "MEAN_STD", "IDENTITY")
STEPS_KNOWN = {
    "policy_preprocessor": ("rename_observations_processor", "to_batch_processor", "device_processor"),
    "policy_postprocessor": ("device_processor",),
}
"""Steps of the processors that change no number."""
EPSILON = 1e-8  # LeRobot adds it to deviations
PIXELS = 255.0
FILL = {"min": -1.0, "max": 1.0, "mean": 0.0, "std": 1.0}  # of a field that is not normalised and has no statistics

Statistics = dict[str, ndarray]


def read_statistics(
    folder: Path, raw: Mapping[str, Tensor], features: list[str], modes: dict[str, str]
) -> tuple[dict[str, Statistics], dict[str, str]]:
    """Statistics of each feature and the modes that apply, from the processors or from the model file."""
    if not (folder / "policy_preprocessor.json").is_file():
        found: dict[str, Statistics] = {}
        names = {name.replace(".", "_"): name for name in features}
        for key, value in raw.items():
            if match := re.fullmatch(r"(normalize_inputs|unnormalize_outputs)\.buffer_(.+)\.(\w+)", key):
                name = names.get(match[2], match[2])
                found.setdefault(name, {})[match[3]] = value.double().numpy()
        return found, modes
    inputs, input_modes = _processor(folder, "policy_preprocessor", "normalizer_processor")
    outputs, output_modes = _processor(folder, "policy_postprocessor", "unnormalizer_processor")
    observed = {name: values for name, values in inputs.items() if name != "action"}
    acted = {name: values for name, values in outputs.items() if name == "action"}
    input_modes.pop("ACTION", None)
    return {**observed, **acted}, {**input_modes, **{k: v for k, v in output_modes.items() if k == "ACTION"}}


def _processor(folder: Path, name: str, wanted: str) -> tuple[dict[str, Statistics], dict[str, str]]:
    """Statistics and modes of the one step ``wanted``; steps that could change numbers are refused."""
    where = folder / f"{name}.json"
    steps = Options(read_json(where), str(where)).take("steps", list)
    known, chosen = STEPS_KNOWN[name], None
    for step in steps:
        kind = step.get("registry_name") if isinstance(step, Mapping) else None
        if kind == wanted and chosen is None:
            chosen = Options(step, f"{where}, '{wanted}'")
        elif kind not in known:
            raise CheckpointError(
                f"{where} has the step {kind!r}; supported: {', '.join((*known, wanted))}, each once."
            )
    if chosen is None:
        raise CheckpointError(f"{where} has no '{wanted}', so there are no statistics.")
    config = Options(chosen.take("config", dict), f"{where}, config of '{wanted}'")
    config.only("normalize_observation_keys", (None,), None)
    modes = {kind: str(mode) for kind, mode in config.take("norm_map", dict).items()}
    file = folder / Path(chosen.take("state_file", str)).name
    statistics: dict[str, Statistics] = {}
    for key, value in read_weights(file).items():
        feature, _, part = key.rpartition(".")
        statistics.setdefault(feature, {})[part] = value.double().numpy()
    return statistics, modes


def mode_of(kind: str, modes: Mapping[str, str]) -> str:
    """How features of the ``kind`` are normalised; raises ``CheckpointError`` when it is not supported."""
    mode = modes.get(kind, "IDENTITY")  # as LeRobot does
    if mode not in MODES:
        raise CheckpointError(f"{kind} is normalised with {mode!r}; supported: {', '.join(MODES)}.")
    return mode


def feature_scaling(
    name: str, kind: str, shape: tuple[int, ...], modes: Mapping[str, str], statistics: Mapping[str, Statistics]
) -> Scaling:
    """Normalisation of one feature; raises ``CheckpointError`` when its statistics are missing."""
    mode, stats = mode_of(kind, modes), statistics.get(name, {})
    needed = {"MIN_MAX": ("min", "max"), "MEAN_STD": ("mean", "std"), "IDENTITY": ()}[mode]
    missing = [part for part in needed if part not in stats]
    if missing:
        raise CheckpointError(
            f"The checkpoint has no statistics {missing} of '{name}', which {mode} needs; without them the policy "
            f"would see numbers in the wrong units. It has statistics of {sorted(statistics)}."
        )
    size = shape[0]  # one number a channel for pictures
    for part, values in stats.items():
        if part in FILL and (values.size != size or not np.isfinite(values).all()):
            raise CheckpointError(f"The statistics '{name}.{part}' are not {size} finite numbers.")
    own = {part: values.reshape(size) for part, values in stats.items() if part in FILL}
    if mode == "MEAN_STD" and (own["std"] < 0).any():
        raise CheckpointError(f"The statistics '{name}.std' hold {own['std'].min():g}; deviations are 0 or more.")
    if kind == "VISUAL":
        return _picture_scaling(mode, own)
    return _vector_scaling(name, size, mode, own, is_action=kind == "ACTION")


def _picture_scaling(mode: str, own: Statistics) -> Scaling:
    """Of pixels 0 to 255, where theirs is of [0, 1]."""
    if mode == "MIN_MAX":
        width = own["max"] - own["min"]
        scale, offset = 2 / width, -2 * own["min"] / width - 1
    elif mode == "MEAN_STD":
        scale, offset = 1 / (own["std"] + EPSILON), -own["mean"] / (own["std"] + EPSILON)
    else:
        scale, offset = np.ones(3), np.zeros(3)
    shaped = (1, 1, 3)
    return affine((scale / PIXELS).reshape(shaped), offset.reshape(shaped), np.zeros(shaped), np.full(shaped, PIXELS))


def _vector_scaling(name: str, size: int, mode: str, own: Statistics, is_action: bool) -> Scaling:
    if mode == "MIN_MAX":
        low, high = own["min"], own["max"]
        width = high - low
        if (width < 0).any() or ((width > 0) & (width < CONSTANT_RANGE)).any():
            raise CheckpointError(
                f"'{name}' varies by less than {CONSTANT_RANGE:g} in a dimension, or has min above max."
            )
        if is_action:  # they give a constant dimension its value, whatever the network says
            margin = np.where(width == 0, 1e-5 * np.maximum(1, np.abs(low)), 0)
            low, high = low - margin, high + margin
        else:  # they give the network -1 there
            high = np.where(width == 0, low + 2, high)
        return Scaling(
            "min_max", field_stats(low, high, own.get("mean", (low + high) / 2), own.get("std", (high - low) / 4))
        )
    if mode == "IDENTITY":
        stats = {part: own.get(part, np.full(size, value)) for part, value in FILL.items()}
        return Scaling(
            "identity", field_stats(stats["min"], wider(stats["min"], stats["max"]), stats["mean"], stats["std"])
        )
    std = np.maximum(own["std"], EPSILON) if is_action else own["std"] + EPSILON
    low, high = own.get("min", own["mean"] - 3 * std), own.get("max", own["mean"] + 3 * std)
    return Scaling("mean_std", field_stats(low, wider(low, high), own["mean"], std))


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file; raises ``CheckpointError``."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds a {type(data).__name__}, expected an object.")
    return data


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file; raises ``CheckpointError``."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}. Expected the weights of a LeRobot policy.") from error
