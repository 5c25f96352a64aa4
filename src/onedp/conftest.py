"""What tests share: the real demonstrations, where this machine has them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

SIMULATORS = ("robosuite", "metaworld")
"""Marks of tests that run one of these."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of simulators that are not installed."""
    missing = [name for name in SIMULATORS if importlib.util.find_spec(name) is None]
    for item in items:
        for name in missing:
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"{name} is not installed: make simulators"))


def real_data_folder() -> Path | None:
    """``$ONEDP_DATA``, else ``../shared/data`` beside the repository; None when there is no such folder."""
    if "ONEDP_DATA" in os.environ:
        return Path(os.environ["ONEDP_DATA"])  # a wrong path is a failure, not a skip
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def pusht_human() -> Path:
    """Folder of the 206 human Push-T demonstrations; skips the test when it is not on this machine."""
    folder = real_data_folder()
    if folder is None:
        pytest.skip("the real demonstrations are not here: neither ../shared/data nor the variable ONEDP_DATA")
    return folder / "pusht_human"
