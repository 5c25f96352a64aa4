"""The demo's whole way on few steps and starts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from onedp.artifact import shipped_artifacts
from onedp.cli.demo import SHIPPED_STUDENT, TEACHER, Demo
from onedp.tasks import TASKS, get_task


@pytest.mark.slow
def test_demo_distils_compares_and_reports(tmp_path, monkeypatch):
    short = replace(get_task("pusht-keypoints"), max_steps=24)  # three chunks: DDPM-100 alone would take a minute
    monkeypatch.setitem(TASKS, "pusht-keypoints", short)
    assert {TEACHER, SHIPPED_STUDENT} <= set(shipped_artifacts())
    demo = Demo(out=tmp_path / "demo", episodes=2, steps=8)
    demo.run()
    comparison = json.loads((tmp_path / "demo" / "comparison.json").read_text())
    assert [result["nfe"] for result in comparison["results"]] == [100, 10, 1, 1]
    assert [result["passes_counted"] for result in comparison["results"]] == [100, 10, 1, 1]
    report = (tmp_path / "demo" / "report.html").read_text()
    assert "video/mp4" in report
    assert "Distance of student and teacher" in report
    assert 'src="http' not in report
