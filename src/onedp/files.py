"""Writing files and folders so that a crash never leaves half of one under its final name."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from onedp.errors import OneDPError


def is_ours(folder: Path, marker: str, key: str) -> bool:
    """Whether we wrote ``folder`` and so may replace it: its file ``marker`` is a JSON object with the entry ``key``.

    A file of that name alone is no proof: web projects have a ``manifest.json`` too.
    """
    try:
        data = json.loads((folder / marker).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and key in data


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to a temporary name beside ``path``, flush it to disk, then rename."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to a temporary name beside ``path``, flush it to disk, then rename; see ``replaced_file``."""
    with replaced_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; on success that file takes the name ``path``, on any error it vanishes.

    Raises ``OneDPError`` when the disk is full or the folder not writable; ``path`` is then untouched.
    """
    with writing(path), growing_file(path) as temporary:
        yield temporary


@contextmanager
def growing_file(path: Path) -> Iterator[Path]:
    """``replaced_file`` for a file that grows while other things run, whose errors are not those of writing.

    What writes to the temporary file does so within ``writing(path)``, which names the file in its errors.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path)
        yield temporary
        with writing(path):
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _flush_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
            for folder in missing:  # those made for nothing; one that holds something stays
                folder.rmdir()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of writing ``path`` become a ``OneDPError`` that says so."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise _not_written(path, error) from error


def write_json(path: Path, data: Any) -> None:
    """``write_text`` of indented JSON; not-a-number values are refused."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; on success it takes the name ``path``, on any error it vanishes.

    An existing folder at ``path`` is replaced: it is renamed away first and removed last, so either the old or the
    new one is complete at every moment. Raises ``OneDPError`` when the disk is full or the folder not writable.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(path)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            file.chmod(0o644)
        if path.exists():
            old = temporary.with_suffix(".old")
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
        _flush_folder(path.parent)
    except (OSError, SafetensorError) as error:
        raise _not_written(path, error) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _not_written(path: Path, error: Exception) -> OneDPError:
    advice = "Free some space or choose another folder."
    if isinstance(error, NotADirectoryError | FileExistsError):
        advice = "A part of that path is a file, not a folder; choose another one."
    return OneDPError(f"{path} could not be written: {error}. {advice}")


def _flush_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut, where the system can (POSIX)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


ABANDONED_SECONDS = 3600
"""A temporary file or folder untouched for so long belongs to a writer that was killed."""


def _remove_abandoned(path: Path) -> None:
    """What writers of ``path`` left that were killed."""
    for abandoned in path.parent.glob(f".{path.name}.*.tmp"):
        with suppress(OSError):
            if time.time() - abandoned.stat().st_mtime > ABANDONED_SECONDS:
                if abandoned.is_dir():
                    shutil.rmtree(abandoned, ignore_errors=True)
                else:
                    abandoned.unlink()


def recover_folder(path: Path) -> None:
    """Undo what a kill inside ``replaced_folder`` left.

    Between its two renames: the old folder gets its name back. Before them: temporary folders that nobody has touched
    for an hour are removed.
    """
    _remove_abandoned(path)
    for old in sorted(path.parent.glob(f".{path.name}.*.old")):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, path)


def require_writable(path: Path) -> None:
    """Raise ``OneDPError`` unless a file could be written at ``path``: asked before hours of work, not after."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OneDPError(f"{path} cannot be written: {folder} is no writable folder, or {path} is one. Choose another.")
