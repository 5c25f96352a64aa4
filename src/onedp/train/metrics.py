"""``metrics.jsonl``: one JSON object a line. Torch-free reading, so reports can use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All complete lines; one that a crash left half-written is ignored. No file: no lines."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def last_diagnostics(path: Path, step: int | None = None) -> dict[str, float]:
    """The newest diagnostics, or those after ``step`` steps, without their prefix; empty when there are none."""
    lines = [line for line in read_metrics(path) if step is None or line["step"] == step]
    for line in reversed(lines):
        numbers = {key.removeprefix("diagnostics/"): value for key, value in line.items() if key.startswith("diagnos")}
        if numbers:
            return numbers
    return {}
