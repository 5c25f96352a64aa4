"""What tests of training share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def demonstrations(tmp_path: Path) -> Path:
    """Two episodes of Push-T in random states."""
    rng = np.random.default_rng(0)
    path = tmp_path / "demonstrations.npz"
    state, action = rng.uniform(100, 400, (60, 5)), rng.uniform(100, 400, (60, 2))
    np.savez(path, state=state.astype(np.float32), action=action.astype(np.float32), episode_ends=[30, 60])
    return path
