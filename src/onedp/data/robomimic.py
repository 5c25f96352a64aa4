"""Reader of robomimic HDF5 files (and raw robosuite ones, which have no observations), in place."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from onedp.data.lazy import LazyArray
from onedp.data.recording import ArrayHeader, Recording, dtype_problem
from onedp.errors import DataError

MAGIC = b"\x89HDF"
NOT_READ = ("next_obs",)
"""Groups of a demonstration that repeat others."""


def looks_like_hdf5(path: Path) -> bool:
    """True for a file that begins as HDF5 does, whatever its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == MAGIC


def open_hdf5(path: Path) -> Recording:
    """Read the names and shapes of all demonstrations, in the order of their numbers.

    Observations are named ``obs/<key>``. Raises ``DataError`` when it is damaged or has another layout.
    """
    demos = Demonstrations(path, *_open(path))
    return Recording(
        source=str(path),
        format="robomimic HDF5" if demos.has_observations else "robosuite HDF5 (raw, without observations)",
        headers=demos.headers,
        ends=demos.ends,
        open_array=demos.array,
        rate_hz=demos.rate_hz,
        bad_episodes=demos.bad_episodes,
        check_array=demos.bad_in,
        splits=demos.splits,
        notes=demos.notes,
        policy=demos.policy,
        hint="" if demos.has_observations else (
            " The file has states but no 'obs': make observations of them with robomimic's dataset_states_to_obs.py."
        ),
    )  # fmt: skip


def _open(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The open file and the names of its demonstrations, sorted by number."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            f"{path} is HDF5, which needs the package h5py, and that cannot be imported ({error}). Install it with: "
            "pip install 'onedp[data]'"
        ) from error
    try:
        file = h5py.File(path, "r")
        found = list(file["data"]) if isinstance(file.get("data"), h5py.Group) else None
        top = sorted(file)
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(
            f"{path} cannot be opened as HDF5 ({error}): it is truncated or damaged. Copy or download it again."
        ) from error
    if found is None:
        raise DataError(
            f"{path} is HDF5 without a group 'data'; it has {top}. Expected robomimic's layout: data/demo_0/actions, "
            "data/demo_0/obs/<key>, ..."
        )
    demos = [name for name in found if re.fullmatch(r"\D*\d+", name)]
    if not demos:
        raise DataError(f"{path}: the group 'data' has no demonstrations (demo_0, demo_1, ...); it has {found[:5]}.")
    return file, tuple(sorted(demos, key=lambda name: int(re.sub(r"\D", "", name))))


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """An open file; rows are those of all demonstrations, one after the other."""

    path: Path
    file: Any
    names: tuple[str, ...]

    @cached_property
    def _shapes(self) -> list[dict[str, tuple[tuple[int, ...], np.dtype]]]:
        """Of each demonstration: array to shape and type."""
        return [_datasets(self.file["data"][name]) for name in self.names]

    @cached_property
    def lengths(self) -> Int64[ndarray, " episodes"]:
        """Actions of each demonstration; 0 where there are none."""
        return np.array([each.get("actions", ((0,), None))[0][0] for each in self._shapes], dtype=np.int64)

    @property
    def ends(self) -> Int64[ndarray, " episodes"]:
        """Index one past the last step of each demonstration."""
        return np.cumsum(self.lengths)

    @cached_property
    def bad_episodes(self) -> dict[int, str]:
        """Demonstrations without actions, or with another number of them than they say."""
        bad = {}
        for episode, (name, length) in enumerate(zip(self.names, self.lengths.tolist(), strict=True)):
            declared = self.file["data"][name].attrs.get("num_samples")
            if length == 0:
                bad[episode] = f"({name}) is empty: it has no 'actions'"
            elif declared is not None and int(declared) != length:
                bad[episode] = f"({name}) has {length} actions, its num_samples says {int(declared)}"
        return bad

    @property
    def has_observations(self) -> bool:
        """Whether any demonstration has a group ``obs``."""
        return any(key.startswith("obs/") for key in self.headers)

    @cached_property
    def headers(self) -> dict[str, ArrayHeader]:
        """Arrays of any demonstration; shape and type are those most of them have."""
        found: dict[str, Counter[tuple[tuple[int, ...], np.dtype]]] = {}
        for shapes in self._shapes:
            for key, (shape, dtype) in shapes.items():
                found.setdefault(key, Counter())[shape[1:], dtype] += 1
        headers = {}
        for key, counts in sorted(found.items()):
            (shape, dtype), _ = counts.most_common(1)[0]
            full = (int(self.lengths.sum()), *shape)
            headers[key] = ArrayHeader(full, "object" if dtype.hasobject else dtype.name, dtype_problem(dtype))
        return headers

    def bad_in(self, key: str) -> dict[int, str]:
        """Demonstrations that lack the array, or have it in another shape."""
        expected = self.headers[key].shape[1:]
        bad = {}
        for episode, (name, shapes) in enumerate(zip(self.names, self._shapes, strict=True)):
            length = int(self.lengths[episode])
            shape = shapes[key][0] if key in shapes else None
            if shape is None:
                bad[episode] = f"({name}) has no '{key}'; others have"
            elif shape[1:] != expected:
                bad[episode] = f"({name}) has '{key}' of shape {shape[1:]}, others of {expected}"
            elif shape[0] != length:
                bad[episode] = f"({name}) has {shape[0]} rows of '{key}' and {length} actions"
        return bad

    def array(self, key: str) -> LazyArray | ndarray:
        """The array of all steps: pictures on demand, other numbers in memory."""
        header, ends, lengths = self.headers[key], self.ends, self.lengths
        bad = self.bad_in(key)

        def read(rows: Int64[ndarray, " n"]) -> ndarray:
            episodes = np.searchsorted(ends, rows, side="right")
            values = np.empty((len(rows), *header.shape[1:]), dtype=header.dtype)
            for episode in np.unique(episodes).tolist():
                if episode in bad:
                    raise DataError(f"{self.path}: episode {episode} {bad[episode]}.")
                mine = np.flatnonzero(episodes == episode)
                steps = rows[mine] - (ends[episode] - lengths[episode])
                stored = self.file["data"][self.names[episode]][key]
                gaps = np.flatnonzero(np.diff(steps) > 1) + 1
                for part, group in zip(np.split(mine, gaps), np.split(steps, gaps), strict=True):
                    values[part] = stored[int(group[0]) : int(group[-1]) + 1]
            return values

        if header.is_lazy:
            return LazyArray(header.shape, np.dtype(header.dtype), read)
        values = np.zeros(header.shape, dtype=header.dtype)
        good = np.flatnonzero(~np.isin(np.arange(len(ends)), list(bad)))
        for episode in good.tolist():
            rows = np.arange(ends[episode] - lengths[episode], ends[episode])
            if len(rows):
                values[rows] = read(rows)
        return values

    @cached_property
    def splits(self) -> dict[str, tuple[int, ...]]:
        """``mask/<name>`` as numbers of demonstrations."""
        number = {name: episode for episode, name in enumerate(self.names)}
        masks = self.file.get("mask", {})
        found = {}
        for split in masks:
            members = [each.decode() if isinstance(each, bytes) else str(each) for each in masks[split][()]]
            if unknown := sorted(set(members) - set(number)):
                raise DataError(
                    f"{self.path}: mask/{split} names {unknown[:3]}, which data/ does not have. The file is damaged or "
                    "was filtered without its masks."
                )
            found[split] = tuple(sorted(number[each] for each in members))
        return found

    @cached_property
    def _environment(self) -> Mapping[str, Any]:
        """``env_args`` of robomimic or ``env_info`` of robosuite, as far as it is JSON."""
        for key in ("env_args", "env_info"):
            try:
                found = json.loads(self.file["data"].attrs.get(key, "null"))
            except (ValueError, TypeError):
                continue
            if isinstance(found, dict):
                return found
        return {}

    @property
    def rate_hz(self) -> float | None:
        """Control rate of the recorded environment [Hz]."""
        options = self._environment.get("env_kwargs", self._environment)
        rate = options.get("control_freq") if isinstance(options, dict) else None
        rate = self._collected.get("rate_hz") if rate is None else rate
        return float(rate) if isinstance(rate, (int, float)) and rate > 0 else None

    @property
    def notes(self) -> tuple[str, ...]:
        """The environment's name, and what a file of ``onedp collect`` says of its demonstrations."""
        attributes = self.file["data"].attrs
        name = self._environment.get("env_name", attributes.get("env", ""))
        about = [f"Environment: {name}"] if name else []
        if isinstance(whose := attributes.get("demonstrations"), str):
            about.append(f"Demonstrations: {whose}")
        ways = self._collected.get("ways")
        if isinstance(ways, dict) and ways:
            about.append("Ways: " + ", ".join(f"{way} {count}" for way, count in ways.items()))
        return tuple(about)

    @property
    def policy(self) -> str:
        """Whose roll-outs a file of ``onedp record`` holds; empty for demonstrations."""
        policy = self.file["data"].attrs.get("policy", "")
        return policy if isinstance(policy, str) and "policy" in self._collected else ""

    @property
    def _collected(self) -> dict[str, Any]:
        try:
            found = json.loads(self.file["data"].attrs.get("collected", "{}"))
        except (ValueError, TypeError):
            return {}
        return found if isinstance(found, dict) else {}


def _datasets(group: Any) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Arrays of a demonstration and of its groups, named ``obs/<key>``."""
    found: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
    for name, item in group.items():
        if name in NOT_READ:
            continue
        if hasattr(item, "keys"):
            found |= {f"{name}/{key}": each for key, each in _datasets(item).items()}
        elif item.shape:
            found[name] = (tuple(item.shape), item.dtype)
    return found
