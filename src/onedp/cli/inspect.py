"""``onedp inspect``: says what a data set or a policy is. Torch-free; heavy imports wait until it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from onedp.data.config import NormalizationMode, ReadingConfig, RecordedConfig
from onedp.errors import OneDPError, did_you_mean


@dataclass(frozen=True)
class Inspect:
    """Say what a data set or a policy is: shapes, units, ranges, timing table, provenance."""

    path: tyro.conf.Positional[Path]
    """Data set (zarr, npz, LeRobot, robomimic HDF5, hub:OWNER/NAME), policy folder, folder of onedp export, or name of
    a shipped policy."""
    task: str | None = None
    """For a data set: also show it as this task reads it, e.g. pusht-keypoints, my_module:my_task or recorded."""
    pictures: bool = False
    """Also read arrays with more than 64 numbers a step: their ranges and the digest of everything; takes longer."""

    split: str | None = None
    """Only this split of the data set."""
    normalization: NormalizationMode = "min_max"
    """With --task: how it would be scaled for training."""
    recorded: Annotated[RecordedConfig, tyro.conf.arg(name="")] = field(default_factory=RecordedConfig)

    def run(self) -> None:
        """Print the description; raises ``OneDPError`` for anything that is neither, or damaged."""
        try:
            self._run()
        except OSError as error:
            raise OneDPError(
                f"{self.path} cannot be read: {error.strerror or error}. Check the path and its rights."
            ) from error

    def _run(self) -> None:
        from onedp.artifact import shipped_artifacts
        from onedp.backends.manifest import is_export

        shipped = shipped_artifacts()
        if not self.path.exists() and str(self.path) in shipped:
            self._inspect_policy(shipped[str(self.path)])
        elif any((self.path / name).is_file() for name in ("spec.json", "weights.safetensors", "norm_stats.json")):
            self._inspect_policy(self.path)
        elif (self.path / "policy" / "spec.json").is_file():  # a finished run
            self._inspect_policy(self.path / "policy")
        elif is_export(self.path):
            from onedp.cli.inspect_export import inspect_export

            self._refuse_task(self.path)
            inspect_export(self.path)
        elif not self.path.exists() and not str(self.path).startswith("hub:"):
            beside = [str(item) for item in self.path.parent.iterdir()] if self.path.parent.is_dir() else []
            raise OneDPError(
                f"Nothing at {self.path}: no such file or folder, and no shipped policy of that name."
                f"{did_you_mean(str(self.path), [*shipped, *beside])} Shipped: {', '.join(shipped) or 'none'}."
            )
        else:
            from onedp.cli.inspect_data import inspect_data

            reading = ReadingConfig(split=self.split)
            inspect_data(self.path, self.task, self.pictures, reading, self.normalization, self.recorded)

    def _inspect_policy(self, folder: Path) -> None:
        from onedp.cli.inspect_policy import inspect_policy

        self._refuse_task(folder)
        inspect_policy(folder)

    def _refuse_task(self, folder: Path) -> None:
        if self.task is not None:
            raise OneDPError(f"{folder} is a policy, which has a task of its own. Leave out --task.")
