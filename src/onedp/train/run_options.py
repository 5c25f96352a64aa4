"""A run's options as plain data: what ``run.json`` keeps to continue it, and what tells it from other runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onedp.data.config import RecordedConfig
from onedp.methods.table import method_to_json
from onedp.train.config import StudentRun, TeacherRun


def plain_run(run: TeacherRun | StudentRun) -> dict[str, Any]:
    """The run's options as plain data, for ``run.json``; ``resume_run`` reads them back."""
    options = {**dataclasses.asdict(run), "method": method_to_json(run.method)}
    for name in ("network", "encoder", "crop"):
        if options.get(name, ...) is None:
            del options[name]  # the teacher's own, or what the task needs, as in runs that could have no other
    return json.loads(json.dumps(options, default=str))


def run_from_anywhere(run: TeacherRun | StudentRun) -> dict[str, Any]:
    """``plain_run`` with absolute paths, so the run can be resumed from another folder."""
    options = plain_run(run)
    for name in ("data", "teacher"):
        if name in options:
            options[name] = _absolute(options[name])
    if "beside" in options:
        options["beside"] = [_absolute(path) for path in options["beside"]]
    return options


def _absolute(path: str) -> str:
    """What is no file here (``hub:...``, a shipped policy) stays as it is."""
    return str(Path(path).resolve()) if Path(path).exists() else path


def run_identity(run: TeacherRun | StudentRun, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree for a checkpoint to be continued, and what provenance keeps: options and digests, no paths."""
    options = plain_run(run)
    del options["loop"]["loader_threads"]
    del options["reading"]  # the digest knows which episodes it is, and where pictures are cached changes nothing
    for name, default in (
        ("recorded", RecordedConfig()),
        ("encoder", None),
        ("crop", None),
        ("beside", ()),
    ):  # runs from before there were these
        if getattr(run, name, default) == default:
            options.pop(name, None)
    options["data"] = Path(options["data"]).name
    if "beside" in options:
        options["beside"] = [Path(path).name for path in options["beside"]]
    options["data_digest"] = provenance["data_digest"]
    if isinstance(run, StudentRun):
        options["teacher"] = Path(run.teacher).name
        options["teacher_digest"] = provenance["teacher"]["weights_digest"]
    return options
