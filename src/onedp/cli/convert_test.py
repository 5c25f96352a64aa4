from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tyro

from onedp.cli.convert import Convert
from onedp.data.config import ReadingConfig
from onedp.data.fake_sets_test import numbers, robomimic
from onedp.data.readers import open_recording
from onedp.errors import DataError, OneDPError


def test_command_line(tmp_path: Path) -> None:
    arguments = [
        str(tmp_path),
        "--to",
        "lerobot",
        "--out",
        "o",
        "--codec",
        "h264",
        "--skip-bad-episodes",
        "--fps",
        "10",
    ]
    expected = Convert(tmp_path, Path("o"), fps=10.0, codec="h264", reading=ReadingConfig(skip_bad_episodes=True))
    assert tyro.cli(Convert, args=arguments) == expected
    with pytest.raises(OneDPError, match="convert needs --out, for example"):
        Convert(tmp_path).run()


def test_bad_episodes_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = robomimic(tmp_path / "d.hdf5")
    with h5py.File(path, "a") as file:
        del file["data/demo_2/obs/top_image"]
    with pytest.raises(DataError, match=r"episode 1 \(demo_2\) has no 'obs/top_image'"):
        Convert(path, tmp_path / "out", codec="h264").run()
    skip = ReadingConfig(skip_bad_episodes=True)
    Convert(path, tmp_path / "out", codec="h264", reading=skip, names={"states": "observation.state"}).run()
    printed = " ".join(capsys.readouterr().out.split())
    assert "warning: Episode 1 (demo_2) has no 'obs/top_image'; others have." in printed
    assert "2 episodes, 15 steps. Look at it with: onedp inspect" in printed
    result = open_recording(tmp_path / "out")
    np.testing.assert_array_equal(result.read("action"), numbers()["action"][[*range(6), *range(11, 20)]])
    assert "observation.state" in result.headers
