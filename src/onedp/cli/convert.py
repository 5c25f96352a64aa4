"""``onedp convert``: any data set as a LeRobot one. Torch-free; heavy imports wait until it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from onedp.data.config import ReadingConfig
from onedp.errors import OneDPError


@dataclass(frozen=True)
class Convert:
    """Write a data set of any format that is read as a LeRobot data set, version 3.0."""

    data: tyro.conf.Positional[Path]
    """diffusion_policy zarr (folder or zip), npz, LeRobot folder, robomimic HDF5, or hub:OWNER/NAME."""
    out: Path | None = None
    """New folder."""
    to: Literal["lerobot"] = "lerobot"
    """Format to write."""
    fps: float | None = None
    """Steps a second; None: as the data set says."""
    description: str | None = None
    """What the demonstrations do, in words; LeRobot keeps it as the task of every step. None: as a LeRobot data set
    says it, else "unknown"."""
    codec: Literal["av1", "h264"] = "av1"
    """Codec of pictures."""
    names: dict[str, str] = field(default_factory=dict)
    """Array and LeRobot name for it, where the usual one is not wanted, e.g. --names img observation.images.top"""
    reading: Annotated[ReadingConfig, tyro.conf.arg(name="")] = field(default_factory=ReadingConfig)

    def run(self) -> None:
        """Convert, and say what was left out."""
        if self.out is None:
            raise OneDPError(
                "convert needs --out, for example: onedp convert demos.hdf5 --to lerobot --out demos-lerobot"
            )
        from onedp.cli.console import make_console
        from onedp.data.lerobot_export import ExportConfig, export_lerobot
        from onedp.data.readers import open_recording

        console = make_console()
        recording = open_recording(self.data, self.reading)
        config = ExportConfig(self.fps, self.description, self.codec, self.names)
        with console.status("writing ..."):
            recording, left_out = export_lerobot(recording, self.out, config, self.reading.skip_bad_episodes)
        for sentence in (*recording.skipped, *left_out):
            console.print(f"warning: {sentence}", style="yellow")
        episodes, steps = len(recording.ends), int(recording.ends[-1])
        console.print(f"{self.out}: {episodes:,} episodes, {steps:,} steps. Look at it with: onedp inspect {self.out}")
