"""Writing demonstrations in robomimic's HDF5 layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.errors import DataError, OneDPError
from onedp.files import replaced_file


@dataclass(frozen=True)
class Demonstration:
    """One episode to write: everything has a row for every step."""

    observations: Mapping[str, ndarray]
    """Before the action of the same row."""
    actions: ndarray
    rewards: ndarray
    dones: ndarray
    extra: Mapping[str, ndarray]
    """Further arrays beside ``actions``, e.g. ``states``."""
    attributes: Mapping[str, Any]
    """Plain values that say where it came from."""

    def __post_init__(self) -> None:
        lengths = {name: len(array) for name, array in self._arrays().items()}
        if len(set(lengths.values())) != 1 or not len(self.actions):
            raise DataError(f"A demonstration must have the same number of steps in each array, at least 1: {lengths}.")

    def _arrays(self) -> dict[str, ndarray]:
        observations = {f"obs/{name}": array for name, array in self.observations.items()}
        return {"actions": self.actions, "rewards": self.rewards, "dones": self.dones, **self.extra, **observations}


def require_h5py() -> None:
    """Raise ``OneDPError`` where HDF5 cannot be written: asked before hours of work, not after."""
    try:
        import h5py  # noqa: F401  (only whether it is there)
    except ImportError as error:
        raise OneDPError(
            f"HDF5 files need the package h5py, and that cannot be imported ({error}). Install it with: "
            "pip install 'onedp[data]'"
        ) from error


def write_robomimic(
    path: Path,
    demonstrations: Sequence[Demonstration],
    environment: Mapping[str, Any],
    attributes: Mapping[str, Any],
    validation_share: float = 0.1,
) -> None:
    """Write ``data/demo_0`` and so on with ``mask/train`` and ``mask/valid``, whole or not at all.

    ``environment`` becomes the attribute ``env_args`` (JSON), ``attributes`` further ones of ``data``. Every tenth
    demonstration is for validation. Raises ``DataError`` without demonstrations, ``OneDPError`` when the disk is full.
    """
    import h5py

    if not demonstrations:
        raise DataError(f"{path}: there are no demonstrations to write.")
    with replaced_file(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(environment)
        data.attrs["total"] = sum(len(demonstration.actions) for demonstration in demonstrations)
        for name, value in attributes.items():
            data.attrs[name] = value
        for index, demonstration in enumerate(demonstrations):
            group = data.create_group(f"demo_{index}")
            group.attrs["num_samples"] = len(demonstration.actions)
            for name, value in demonstration.attributes.items():
                group.attrs[name] = value
            for name, array in demonstration._arrays().items():
                group.create_dataset(name, data=array, compression="gzip" if array.ndim > 3 else None)
        _write_masks(file, len(demonstrations), validation_share)


def _write_masks(file: Any, count: int, validation_share: float) -> None:
    every = max(2, round(1 / validation_share))
    valid = np.arange(count) % every == every - 1
    for name, chosen in (("train", ~valid), ("valid", valid)):
        names = np.array([f"demo_{index}" for index in np.flatnonzero(chosen)], dtype="S")
        file.create_dataset(f"mask/{name}", data=names)
