"""A policy on its way to machines that share no disk with this one: its files, or the name of a shipped one."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onedp.artifact import shipped_artifacts
from onedp.errors import ArtifactError


@dataclass(frozen=True)
class Shipment:
    """Files of a policy folder or an export."""

    name: str
    """The folder's name, or that of a policy which every installation has."""
    files: tuple[tuple[str, bytes], ...]
    """Path below the folder and content, sorted; none for a policy that is there by name."""
    digest: str
    """SHA-256 over paths and contents, also of a policy that is there by name."""

    @classmethod
    def pack(cls, policy: str) -> Shipment:
        """Of a folder as ``opening.policy_path`` gives it."""
        folder = Path(policy)
        shipped = {path.resolve(): name for name, path in shipped_artifacts().items()}
        name = shipped.get(folder.resolve())
        files = _files_of(folder)
        return cls(name or folder.name, () if name else files, _digest(files))

    @contextmanager
    def unpacked(self) -> Iterator[str]:
        """What to open: a folder of this process alone, which is gone afterwards, or the name.

        Raises ``ArtifactError`` when what is here is not what was sent.
        """
        there = shipped_artifacts().get(self.name)
        files = self.files or (_files_of(there) if there else ())
        if _digest(files) != self.digest:
            raise ArtifactError(
                f"The policy {self.name} differs between a worker's machine and this one. "
                "Install the same onedp on both."
            )
        if not self.files:
            yield self.name
            return
        with tempfile.TemporaryDirectory(prefix="onedp-") as temporary:
            folder = Path(temporary) / self.name
            for path, content in self.files:
                file = folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            yield str(folder)


def _files_of(folder: Path) -> tuple[tuple[str, bytes], ...]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((path.relative_to(folder).as_posix(), path.read_bytes()) for path in paths)


def _digest(files: tuple[tuple[str, bytes], ...]) -> str:
    total = hashlib.sha256()
    for path, content in files:
        total.update(hashlib.sha256(path.encode()).digest() + hashlib.sha256(content).digest())
    return total.hexdigest()
