"""The page about tasks of one's own: its example is a task, and its commands run on it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from onedp.cli.main import main
from onedp.evaluate.comparison import load_results
from onedp.evaluate.results import EvaluationResult
from onedp.tasks import Environment, get_task

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "tasks.md"


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the example's module on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.delitem(sys.modules, "reach_task", raising=False)
    return tmp_path


def test_the_example_is_short_and_a_task(examples: Path) -> None:
    lines = (ROOT / "examples" / "reach_task.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) < 45
    env = get_task("reach_task:REACH").make_env()
    assert isinstance(env, Environment)
    first = env.reset(3)
    assert env.render(32).shape == (32, 32, 3)
    assert {name: values.tolist() for name, values in env.reset(3).items()} == {k: v.tolist() for k, v in first.items()}


@pytest.mark.slow
def test_the_pages_commands_lead_to_a_student(examples: Path) -> None:
    text = PAGE.read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(program, str(PAGE), "exec"), {})
    (commands,) = re.findall(r"```\n(cd examples.*?)```", text, re.DOTALL)
    train, distill, _ = [line.split()[1:] for line in commands.splitlines()[1:]]
    assert (train[0], distill[0]) == ("train", "distill")
    main([*train, "--steps", "150", "--batch-size", "64", "--threads", "1"])
    main([*distill, "--steps", "20", "--batch-size", "16", "--threads", "1"])
    main(["evaluate", "student", "--episodes", "2", "--workers", "1", "--json", "result.json"])
    result = load_results(Path("result.json"))
    assert isinstance(result, EvaluationResult)
    assert (result.task, result.nfe) == ("reach_task:REACH", 1)
