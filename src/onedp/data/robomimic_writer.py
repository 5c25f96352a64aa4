"""Writing demonstrations in robomimic's HDF5 layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.errors import DataError, OneDPError
from onedp.files import growing_file, writing

SPARE_BYTES = 50_000_000
"""Left free on the disk, for what else the file needs and others write meanwhile."""


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

    @property
    def size(self) -> int:
        """Of all arrays, uncompressed [bytes]."""
        return sum(array.nbytes for array in self._arrays().values())

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


class RobomimicFile:
    """A file that grows by one demonstration at a time, so that none waits in memory; from ``robomimic_file``."""

    def __init__(self, path: Path, file: Any):
        self._path, self._file = path, file
        with writing(path):
            self._data = file.create_group("data")
        self._count = self._steps = 0

    def __len__(self) -> int:
        return self._count

    @property
    def steps(self) -> int:
        """Of all demonstrations so far."""
        return self._steps

    def add(self, demonstration: Demonstration) -> None:
        """Write the next demonstration; raises ``OneDPError`` when the disk is full."""
        needed, free = demonstration.size, shutil.disk_usage(self._path.parent).free
        if free < needed + SPARE_BYTES:  # asked first: HDF5 does not survive a write that fails
            raise OneDPError(
                f"{self._path} could not be written: the next episode needs {needed / 1e6:,.1f} MB and "
                f"{SPARE_BYTES / 1e6:,.0f} MB to spare, {free / 1e6:,.1f} MB are free. Free some space or choose "
                "another folder."
            )
        with writing(self._path):
            group = self._data.create_group(f"demo_{self._count}")
            group.attrs["num_samples"] = len(demonstration.actions)
            for name, value in demonstration.attributes.items():
                group.attrs[name] = value
            for name, array in demonstration._arrays().items():
                group.create_dataset(name, data=array, compression="gzip" if array.ndim > 3 else None)
            self._file.flush()
        self._count += 1
        self._steps += len(demonstration.actions)

    def finish(
        self, environment: Mapping[str, Any], attributes: Mapping[str, Any], validation_share: float = 0.1
    ) -> None:
        """Describe the demonstrations.

        ``environment`` becomes the attribute ``env_args`` (JSON), ``attributes`` further ones of ``data``. Every tenth
        demonstration is for validation. Raises ``DataError`` without demonstrations.
        """
        if not self._count:
            raise DataError(f"{self._path}: there are no demonstrations to write.")
        with writing(self._path):
            self._data.attrs["env_args"] = json.dumps(environment)
            self._data.attrs["total"] = self._steps
            for name, value in attributes.items():
                self._data.attrs[name] = value
            _write_masks(self._file, self._count, validation_share)


@contextmanager
def robomimic_file(path: Path) -> Iterator[RobomimicFile]:
    """Write ``data/demo_0`` and so on with ``mask/train`` and ``mask/valid``, whole or not at all.

    The caller adds demonstrations and finishes; after an error there is no file. Raises ``OneDPError`` when the disk
    is full, or where nobody finished.
    """
    import h5py

    with growing_file(path) as temporary:
        with writing(path):
            file = h5py.File(temporary, "w")
        try:
            yield RobomimicFile(path, file)
            if "mask" not in file:
                raise OneDPError(f"{path} was not finished, so nothing was written.")
        finally:
            with writing(path):
                file.close()


def _write_masks(file: Any, count: int, validation_share: float) -> None:
    every = max(2, round(1 / validation_share))
    valid = np.arange(count) % every == every - 1
    for name, chosen in (("train", ~valid), ("valid", valid)):
        names = np.array([f"demo_{index}" for index in np.flatnonzero(chosen)], dtype="S")
        file.create_dataset(f"mask/{name}", data=names)
