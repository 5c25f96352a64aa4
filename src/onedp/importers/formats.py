"""Which importer reads a checkpoint."""

from __future__ import annotations

from pathlib import Path

from onedp.errors import CheckpointError
from onedp.importers.diffusion_policy import read_diffusion_policy
from onedp.importers.imported import Imported
from onedp.importers.lerobot import is_lerobot, read_lerobot
from onedp.importers.safe_pickle import read_checkpoint


def read_foreign_policy(path: Path) -> Imported:
    """A LeRobot folder or a diffusion_policy ``.ckpt``; raises ``CheckpointError``."""
    if is_lerobot(path):
        return read_lerobot(path)
    if path.is_file():
        return read_diffusion_policy(path, read_checkpoint(path))
    found = "does not exist" if not path.exists() else "is a folder without config.json"
    raise CheckpointError(
        f"{path} {found}. Expected a LeRobot folder (config.json, model.safetensors) or a .ckpt of diffusion_policy."
    )
