"""Reader of diffusion_policy zarr data sets: ``data/*`` time first and ``meta/episode_ends``, folder or zip.

Headers come from the JSON files of zarr v2 and v3 themselves, so opening needs no zarr package and a single odd array
does not spoil the rest; the package decodes the chunks.
"""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onedp.data.episodes import empty_episodes
from onedp.data.recording import ArrayHeader, Recording, dtype_problem
from onedp.errors import DataError

ENDS = "meta/episode_ends"
ARRAY_FILES = (".zarray", "zarr.json")
METADATA_FILES = (".zgroup", ".zmetadata", *ARRAY_FILES)


def looks_like_zarr(path: Path) -> bool:
    """True for a folder with zarr metadata, or a zip that holds some, whatever its name."""
    if path.is_dir():  # the second: "cp d.zarr/* ..." forgets the hidden files at the top, which are not needed
        return any((path / name).is_file() for name in (*METADATA_FILES, f"{ENDS}/.zarray"))
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.rpartition("/")[2] in METADATA_FILES for name in file.namelist())


def open_zarr(path: Path) -> Recording:
    """Read the headers and the episode ends. In a zip the zarr may lie in a folder, as in diffusion_policy's own."""
    prefix = "" if path.is_dir() else _prefix_in_zip(path)
    root = path if path.is_dir() else zipfile.Path(path, prefix)
    metadata = {name: _array_metadata(root / "data" / name, path) for name in _array_names(root / "data")}
    ends_metadata = _array_metadata(root / "meta" / "episode_ends", path)
    if not metadata or ends_metadata is None:
        raise DataError(
            f"{path} is a zarr without arrays in 'data/' or without '{ENDS}'; it has "
            f"{sorted(item.name for item in root.iterdir() if item.is_dir())}, in 'data/' {sorted(metadata)}. "
            "Expected the layout of diffusion_policy's replay buffer: data/<name> with one row a step, and "
            f"{ENDS} with the index one past the last step of each episode."
        )
    headers = {
        name: replace(_header(entry), doubt=_missing_chunks(root / "data" / name, entry))
        for name, entry in metadata.items()
        if entry is not None
    }
    ends_header = _header(ends_metadata)
    if ends_header.problem:
        raise DataError(f"{path}: '{ENDS}' {ends_header.problem}")
    try:
        ends = np.asarray(_open_array(path, prefix + ENDS)[:])
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{path}: '{ENDS}' cannot be read ({type(error).__name__}: {error}). The data set is damaged or "
            "incomplete; copy or download it again."
        ) from error
    version = ends_metadata.get("zarr_format", 2)
    return Recording(
        source=str(path),
        format=f"zarr v{version} ({'folder' if path.is_dir() else 'zip'})",
        headers=headers,
        ends=ends.astype(np.int64) if ends.dtype.kind in "iu" else ends,
        bad_episodes=empty_episodes(ends),
        open_array=lambda name: _open_array(path, f"{prefix}data/{name}"),
    )


def _open_array(path: Path, key: str) -> Any:
    try:
        import zarr  # heavy import, needed for the chunks of this format only
    except ImportError as error:
        raise DataError(
            f"{path} is a zarr, and the zarr package cannot be imported ({error}). Install it with: "
            "pip install 'onedp[train]', or save the arrays as npz."
        ) from error
    store: Any = str(path) if path.is_dir() else zarr.storage.ZipStore(str(path), mode="r")  # both in zarr 2 and 3
    return zarr.open_array(store, path=key, mode="r")


def _prefix_in_zip(path: Path) -> str:
    """Folder inside the zip, with a slash, that holds ``meta/episode_ends``; empty for the top."""
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
    prefixes = {
        name[: -len(f"{ENDS}/{file}")] for name in names for file in ARRAY_FILES if name.endswith(f"{ENDS}/{file}")
    }
    prefixes = {prefix for prefix in prefixes if not prefix or prefix.endswith("/")}
    if len(prefixes) > 1:
        raise DataError(
            f"{path} holds {len(prefixes)} zarr data sets: {sorted(prefixes)}. Expected one; unzip it and pass the "
            "folder of the one you mean."
        )
    return prefixes.pop() if prefixes else ""


def _array_names(group: Path | zipfile.Path) -> list[str]:
    if not group.is_dir():
        return []
    return sorted(item.name for item in group.iterdir() if any((item / name).is_file() for name in ARRAY_FILES))


def _array_metadata(folder: Path | zipfile.Path, path: Path) -> dict[str, Any] | None:
    """The array's ``.zarray`` (v2) or ``zarr.json`` (v3); None when it is no array."""
    file = next((folder / name for name in ARRAY_FILES if (folder / name).is_file()), None)
    if file is None:
        return None
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
        return metadata if metadata.get("node_type", "array") == "array" else None
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: the metadata of '{folder.name}' is not readable ({error}). The data set is damaged; copy or "
            "download it again."
        ) from error


def _header(metadata: dict[str, Any]) -> ArrayHeader:
    shape = tuple(int(n) for n in metadata.get("shape", ()))
    declared = metadata.get("dtype", metadata.get("data_type"))
    try:
        dtype = np.dtype(declared if isinstance(declared, str) else [tuple(item) for item in declared or ()])
    except (TypeError, ValueError):
        return ArrayHeader(shape, str(declared), f"has the type {declared!r}, expected plain numbers.")
    if any("pickle" in name for name in _codec_names(metadata)):
        dtype = np.dtype(object)  # whatever it says it is, decoding would unpickle
    return ArrayHeader(shape, "object" if dtype.hasobject else dtype.name, dtype_problem(dtype))


def _missing_chunks(folder: Path | zipfile.Path, metadata: dict[str, Any]) -> str:
    """What to say when not all chunks are stored: zarr reads the others as zeros without a word."""
    grid = metadata.get("chunk_grid", {}).get("configuration", {}).get("chunk_shape")
    sizes = zip(metadata.get("shape", ()), metadata.get("chunks", grid) or (), strict=False)
    expected = math.prod(math.ceil(n / size) for n, size in sizes)
    missing = expected - _count_files(folder)
    if missing <= 0:
        return ""
    return (
        f"has {missing} of its {expected} chunks not stored; they are read as the fill value, mostly 0. If the copy is "
        "incomplete, copy it again; if these steps really are all 0, write the array anew with write_empty_chunks."
    )


def _count_files(folder: Path | zipfile.Path) -> int:
    """Chunks in the folder of an array, however deep; metadata files are left out."""
    names = [item for item in folder.iterdir() if item.name not in (*ARRAY_FILES, ".zattrs")]
    return sum(_count_files(item) if item.is_dir() else 1 for item in names)


def _codec_names(node: Any) -> list[str]:
    """Names of all codecs anywhere in the filters, compressor or codecs of an array."""
    if isinstance(node, list):
        return [name for item in node for name in _codec_names(item)]
    if not isinstance(node, dict):
        return []
    own = [str(node[key]).lower() for key in ("id", "name") if isinstance(node.get(key), str)]
    return own + [name for key, value in node.items() if key != "attributes" for name in _codec_names(value)]
