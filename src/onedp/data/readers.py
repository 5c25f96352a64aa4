"""The table of data set formats, and the functions that open any of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from onedp.data.config import ReadingConfig
from onedp.data.episodes import Episodes
from onedp.data.hub import local_data_set
from onedp.data.lerobot import looks_like_lerobot, open_lerobot
from onedp.data.npz import looks_like_npz, open_npz
from onedp.data.recording import Recording
from onedp.data.robomimic import looks_like_hdf5, open_hdf5
from onedp.data.zarr import looks_like_zarr, open_zarr
from onedp.errors import DataError, did_you_mean

Reader = Callable[[Path], Recording]

READERS: dict[str, tuple[Callable[[Path], bool], Reader]] = {
    "zarr": (looks_like_zarr, open_zarr),
    "npz": (looks_like_npz, open_npz),
    "LeRobot": (looks_like_lerobot, open_lerobot),
    "robomimic": (looks_like_hdf5, open_hdf5),
}
"""Format to (does it look like it, by content; open it)."""

EXPECTED = (
    "Expected a diffusion_policy zarr (folder or zip with data/<name> and meta/episode_ends) or an npz with "
    "'episode_ends' and one array per name, a LeRobot folder (with meta/info.json) or a robomimic HDF5 file."
)

# First bytes of files that people mistake for a data set of ours.
FOREIGN_FILES = {
    b"\x93NUMPY": "is a single numpy array (npy)",
    b"PAR1": "is a single parquet file; of a LeRobot data set, pass the folder that has meta/ and data/ in it",
    b"\x80": "looks like a Python pickle, which is never opened because it can run foreign code",
    b"version https://git-lfs": "is a Git LFS pointer, not the data itself (fetch it with: git lfs pull)",
}


def open_episodes(path: str | Path, names: tuple[str, ...] | None = None) -> Episodes:
    """Open a data set of any format in the table.

    ``names``: arrays to read; None for all. Raises ``DataError`` when the file is missing, of no known format,
    lacks one of ``names`` or is inconsistent.
    """
    return open_recording(path).episodes(names)


def open_recording(path: str | Path, reading: ReadingConfig | None = None) -> Recording:
    """Open a data set of any format in the table, reading no array yet; raises ``DataError`` as above.

    ``path`` may be ``hub:OWNER/NAME``. Episodes that cannot be used are an error, or left out when ``reading`` says so.
    """
    reading = reading or ReadingConfig()
    recording = _read(local_data_set(path))
    recording = recording.without_bad_episodes(reading.skip_bad_episodes)
    return recording if reading.split is None else recording.split(reading.split)


def _read(path: Path) -> Recording:
    try:
        if not path.exists():
            raise DataError(_missing(path))
        for looks_like, read in READERS.values():
            if looks_like(path):
                return read(path)
        raise DataError(_not_a_data_set(path))
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is a damaged zip ({error}). Copy or download it again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}. Check the path and its rights.") from error


def _missing(path: Path) -> str:
    neighbours = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    return f"No data set at {path}: it does not exist.{did_you_mean(path.name, neighbours)} Check the path."


def _not_a_data_set(path: Path) -> str:
    if path.is_dir():
        return _not_a_data_set_folder(path)
    with path.open("rb") as file:
        head = file.read(32)
    size = path.stat().st_size
    foreign = next((what for magic, what in FOREIGN_FILES.items() if head.startswith(magic)), None)
    if size == 0:
        what = "is empty (0 bytes); copy or download it again"
    elif foreign:
        what = foreign
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            what = f"is a zip, but neither a zarr nor an npz; it holds {archive.namelist()[:4]}"
    elif head.startswith(b"PK"):
        what = (
            f"begins like a zip, but its table of contents at the end is missing: it is truncated (has {size} bytes). "
            "Copy or download it again"
        )
    else:
        what = f"is neither a zip nor a folder; it begins with {head[:16]!r}"
    return f"{path} {what}. {EXPECTED}"


def _not_a_data_set_folder(path: Path) -> str:
    items = sorted(path.iterdir())
    inside = [item for item in items if any(looks_like(item) for looks_like, _ in READERS.values())]
    if inside:
        return f"{path} is a folder, not a data set, but it contains some. Pass one of: {', '.join(map(str, inside))}"
    names = [item.name for item in items[:4]]
    return f"{path} is a folder without zarr metadata (.zgroup or zarr.json); it holds {names or 'nothing'}. {EXPECTED}"
