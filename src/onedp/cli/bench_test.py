"""How ``onedp bench`` ends."""

from __future__ import annotations

import pytest

from onedp.bench.frame import Row
from onedp.cli.bench import Bench
from onedp.errors import OneDPError

MADE = Row("onedp-s, 10 %", "onedp-s", 0.1, (0,), ({"score": 0.9},), None)
FAILED = Row("mip, 10 %", "mip", 0.1, (), (), "TrainingError: it diverged")


def test_a_table_with_numbers_is_a_result_and_one_without_is_an_error(tmp_path, monkeypatch, capsys):
    rows = [FAILED, MADE]
    monkeypatch.setattr("onedp.bench.run.run_bench", lambda *_: rows)
    (tmp_path / "table.md").write_text("the table")
    bench = Bench("two-modes", methods=("mip,onedp-s",), seeds=1, out=tmp_path)
    bench.run()
    rows.remove(MADE)
    with pytest.raises(OneDPError, match="No row could be made; the first of them: TrainingError: it diverged"):
        bench.run()
    assert capsys.readouterr().out.count("the table") == 2
    rows.clear()  # with --only-finished, while nothing is
    bench.run()
