"""``scripts/measure_*.sh`` change folder; what the caller gives relative to his own still means it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("not run from the source tree", allow_module_level=True)

SCRIPTS = {
    "measure_lift_moving.sh": ("work",),
    "measure_lost_states.sh": ("work",),
    "measure_pusht.sh": ("noise",),
    "measure_pusht_drift.sh": ("work",),
    "measure_pusht_image.sh": ("work/data.zip", "work"),
    "measure_reaction.sh": ("work", "pose-reset"),
    "measure_rivals.sh": ("work/data.zip", "work"),
    "measure_visited_states.sh": ("work",),
}
"""Script to arguments."""
FOLDERS = {"measure_lift_moving.sh": "ROWS", "measure_pusht_drift.sh": "ROWS", "measure_reaction.sh": "RESULTS"}
"""Script to the name of the folder for its results, where one can be given."""


@dataclass
class Checkout:
    """Copies of the scripts, and a folder elsewhere from which they are called; onedp and Python only take notes."""

    root: Path
    caller: Path

    def run(self, script: str, **environment: str) -> list[list[str]]:
        """Call a script; the folder, the command and the arguments of each call that it made."""
        notes = self.caller / "notes"
        notes.unlink(missing_ok=True)
        path = os.pathsep.join([str(self.caller / "bin"), os.environ["PATH"]])
        done = subprocess.run(
            [shutil.which("sh") or "sh", str(self.root / "scripts" / script), *SCRIPTS[script]],
            cwd=self.caller,
            env={"PATH": path, "NOTES": str(notes), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [line.split("\t") for line in notes.read_text().splitlines()]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root, caller = tmp_path / "the checkout", tmp_path / "the caller"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for task in ("pusht-keypoints", "visited-states"):
        (root / "results" / task).mkdir(parents=True)
    (caller / "bin").mkdir(parents=True)
    for name in ("onedp", "python"):
        command = caller / "bin" / name
        command.write_text('#!/bin/sh\n{ printf \'%s\t\' "$PWD" "$0" "$@"; echo; } >>"$NOTES"\n')
        command.chmod(0o755)
    (caller / "work" / "pose-reset-ddpm").mkdir(parents=True)
    return Checkout(root, caller)


def test_no_script_is_forgotten() -> None:
    assert sorted(SCRIPTS) == sorted(path.name for path in (ROOT / "scripts").glob("measure_*.sh"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_commands_may_be_names_or_relative_paths(checkout: Checkout, script: str) -> None:
    named = checkout.run(script)
    assert named == checkout.run(script, ONEDP="onedp", PYTHON="python")
    by_path = checkout.run(script, ONEDP="bin/onedp", PYTHON="./bin/python")
    assert [(call[0], *call[2:]) for call in by_path] == [(call[0], *call[2:]) for call in named]
    assert {Path(call[1]) for call in (*by_path, *named)} <= {
        checkout.caller / "bin" / name for name in ("onedp", "python")
    }
    assert named


@pytest.mark.parametrize("script", FOLDERS)
@pytest.mark.parametrize("given", ["mine", "absolute", None])
def test_the_folder_for_results_is_the_callers(checkout: Checkout, script: str, given: str | None) -> None:
    folder = checkout.caller / "mine"
    options = {} if given is None else {FOLDERS[script]: str(folder) if given == "absolute" else given}
    calls = checkout.run(script, **options)
    found = {call[call.index("--folder") + 1] for call in calls if "--folder" in call}
    results = checkout.root / "results"
    expected = {
        "measure_lift_moving.sh": {results / "realtime-lift"},
        "measure_pusht_drift.sh": {results / "realtime", results / "realtime-pusht-reset"},
        "measure_reaction.sh": {results / "realtime-pose-reset"},
    }[script]
    if given is not None:
        expected = {folder / "realtime-pose-reset" if script == "measure_reaction.sh" else folder}
    assert found == {str(path) for path in expected}


def test_the_workspace_is_the_callers(checkout: Checkout) -> None:
    calls = checkout.run("measure_visited_states.sh")
    (out,) = [call[call.index("--out") + 1] for call in calls if call[2] == "distill"]
    assert out == str(checkout.caller / "work" / "visited")
    assert {call[0] for call in calls} == {str(checkout.root)}  # the rows' commands stand in them as they are
    for script in ("measure_lift_moving.sh", "measure_pusht_image.sh", "measure_reaction.sh"):
        assert {call[0] for call in checkout.run(script)} == {str(checkout.caller / "work")}
