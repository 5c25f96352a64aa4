"""How ``onedp bench`` ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from onedp.bench.frame import Row
from onedp.cli.bench import Bench
from onedp.errors import OneDPError

MADE = Row("onedp-s, 10 %", "onedp-s", 0.1, (0,), ({"score": 0.9},), None)
FAILED = Row("mip, 10 %", "mip", 0.1, (), (), "TrainingError: it diverged")


def test_a_table_with_numbers_is_a_result_and_one_without_is_an_error(tmp_path, monkeypatch, capsys):
    rows = [FAILED, MADE]
    monkeypatch.setattr("onedp.bench.run.run_bench", lambda *_: rows)
    monkeypatch.setattr("onedp.bench.plan.plan", lambda *_: "Plan: two trainings")
    (tmp_path / "table.md").write_text("the table")
    bench = Bench("two-modes", methods=("mip,onedp-s",), seeds=1, out=tmp_path)
    bench.run()
    rows.remove(MADE)
    with pytest.raises(OneDPError, match="No row could be made; the first of them: TrainingError: it diverged"):
        bench.run()
    said = capsys.readouterr().out
    assert said.count("the table") == said.count("Plan: two trainings") == 2
    rows.clear()  # with --only-finished, while nothing is
    bench.run()


def test_options_that_two_modes_has_no_use_for_are_refused(tmp_path):
    changes: dict[str, Any] = {"episodes": 5, "teacher_edm": "mine", "lost": False}
    with pytest.raises(OneDPError, match="--teacher-edm, --no-lost, --episodes: only of pusht-keypoints"):
        Bench("two-modes", methods=("onedp-s",), out=tmp_path, **changes).run()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("edm/mip,onedp-s",)}, "edm/mip must be trained on demonstrations. .*--demonstrations"),
        ({"demonstrations": Path("nowhere.zarr")}, "--demonstrations nowhere.zarr does not exist"),
        ({"data": Path("nowhere.npz")}, "--data nowhere.npz does not exist"),
        ({"episodes": 0}, r"episodes \(0\)"),
        ({"workers": 0}, r"workers \(0\)"),
        (
            {"methods": ("onedp-s,flow/onedp,euler:10",)},
            "flow/onedp, euler:10: there is no flow teacher.*--teacher-flow",
        ),
        (
            {"methods": ("flow/onedp",), "teacher_flow": "pusht-keypoints-edm"},
            "--teacher-flow pusht-keypoints-edm: its process is edm, not flow",
        ),
        (
            {"teacher_ddpm": "pusht-keypoints-onedp-s"},
            "--teacher-ddpm pusht-keypoints-onedp-s: .*one-step student",
        ),
        ({"teacher_ddpm": "nowhere"}, "nowhere"),
        ({"methods": ("onedp-s@foo:3",)}, "onedp-s@foo:3: .*sampler 'foo'"),
        ({"only_finished": True}, "Nothing of this is finished in .*--only-finished"),
    ],
)
def test_what_could_not_become_a_row_ends_before_anything_is_trained_or_written(changes, message, tmp_path):
    (tmp_path / "results.json").write_text("kept")
    with pytest.raises(OneDPError, match=message):
        Bench("pusht-keypoints", **{"methods": ("onedp-s",), "out": tmp_path, **changes}).run()
    assert (tmp_path / "results.json").read_text() == "kept"
    assert not (tmp_path / "table.md").exists()
