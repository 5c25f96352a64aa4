from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

from onedp.data.hub import local_data_set
from onedp.data.readers import open_recording
from onedp.errors import DataError


def stand_in(monkeypatch: pytest.MonkeyPatch, result: Path | Exception) -> list[tuple[Any, ...]]:
    """The Hub as a function: what it was asked for."""
    asked: list[tuple[Any, ...]] = []

    def snapshot_download(name: str, repo_type: str, revision: str | None) -> str:
        asked.append((name, repo_type, revision))
        if isinstance(result, Exception):
            raise result
        return str(result)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_path_is_taken_as_it_is() -> None:
    assert local_data_set("some/where") == Path("some/where")


def test_a_data_set_of_the_hub_is_opened_where_it_was_downloaded_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "d.npz", action=np.zeros((4, 2)), episode_ends=[4])
    asked = stand_in(monkeypatch, tmp_path / "d.npz")
    assert open_recording(Path("hub:lerobot/pusht")).ends.tolist() == [4]
    assert local_data_set("hub:lerobot/pusht@v3.0") == tmp_path / "d.npz"
    assert asked == [("lerobot/pusht", "dataset", None), ("lerobot/pusht", "dataset", "v3.0")]


def test_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, ConnectionError("no route to host\nand a long story"))
    with pytest.raises(
        DataError,
        match=r"'hub:a/b' could not be downloaded \(ConnectionError: no route to host\). Check the name, the network "
        r"and whether it needs a login \(huggingface-cli login\); or pass the folder of a copy",
    ):
        open_recording("hub:a/b")


@pytest.mark.parametrize("name", ["hub:pusht", "hub:", "hub:a/b/c", "hub:/b"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(DataError, match=r"names no data set of the Hub. Expected hub:OWNER/NAME"):
        local_data_set(name)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"needs the package huggingface_hub.*pip install 'onedp\[hub\]'"):
        local_data_set("hub:a/b")
