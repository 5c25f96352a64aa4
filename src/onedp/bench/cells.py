"""Finished pieces of a benchmark on disk: each is one JSON file, named by what was asked for, and never done again.

Torch-free.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onedp.errors import OneDPError
from onedp.files import write_json

CELL_FORMAT = "onedp.bench-cell/1"


@dataclass(frozen=True)
class Cell:
    """What a piece of work is: a short name for people, and every option that its result depends on."""

    name: str
    identity: Mapping[str, Any]
    """Plain JSON data. Two cells with equal identities are the same work, whatever their names."""

    @property
    def digest(self) -> str:
        """Of the identity, 12 hexadecimal digits."""
        text = json.dumps(self.identity, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def stem(self) -> str:
        """Name of its file or folder without the suffix; holds no character that a file system dislikes."""
        return f"{re.sub(r'[^A-Za-z0-9.-]+', '-', self.name).strip('-')}-{self.digest}"


class UnfinishedError(OneDPError):
    """A piece of work is not there, and was not to be made."""


@dataclass(frozen=True)
class CellStore:
    """The cells of one output folder."""

    folder: Path
    make_missing: bool = True
    """False: only look; what is not there raises ``UnfinishedError``."""

    def path(self, cell: Cell) -> Path:
        """The file of a cell."""
        return self.folder / "cells" / f"{cell.stem}.json"

    def stem(self, cell: Cell) -> str:
        """Under which its file was written: an equal cell may have had another name."""
        matches = sorted((self.folder / "cells").glob(f"*-{cell.digest}.json"))
        return matches[0].stem if matches else cell.stem

    def find(self, cell: Cell) -> dict[str, Any] | None:
        """The result of a finished cell; None when it is not there. Raises ``OneDPError`` on a damaged file."""
        path = self.folder / "cells" / f"{self.stem(cell)}.json"
        if not path.exists():
            return None
        try:
            saved = json.loads(path.read_text())
            if saved["format"] == CELL_FORMAT and saved["identity"] == json.loads(json.dumps(cell.identity)):
                return dict(saved["result"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OneDPError(f"{path} cannot be read ({error!r}). Remove it, and it is made again.") from error
        raise OneDPError(f"{path} is the result of something else than its name says. Remove it.")

    def require_making(self, cell: Cell) -> None:
        """Raise ``UnfinishedError`` where nothing may be made."""
        if not self.make_missing:
            raise UnfinishedError(f"{cell.name} is not finished. Run the same command without --only-finished.")

    def done(self, cell: Cell, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of a cell, made only if it is not there yet; raises ``UnfinishedError`` when nothing may be."""
        found = self.find(cell)
        if found is not None:
            return found
        self.require_making(cell)
        result = make()
        write_json(
            self.path(cell),
            {
                "format": CELL_FORMAT,
                "name": cell.name,
                "identity": cell.identity,
                "result": result,
                "package_version": importlib.metadata.version("onedp"),
                "date": datetime.date.today().isoformat(),
            },
        )
        return result
