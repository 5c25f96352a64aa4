"""Frozen dataclasses to JSON and back, strictly: nothing missing, nothing unknown, every entry of its type."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from onedp.errors import OneDPError

# By a field's annotation as written; any other is a list, which the caller rebuilds.
_KINDS: dict[str, tuple[Any, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "dict[str, Any]": (dict,),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
    "tuple[float, float]": (list,),
    "Timing | None": (dict, type(None)),
}


def plain(row: Any) -> dict[str, Any]:
    """A dataclass as what JSON can hold: dicts, lists, numbers and text."""
    return {key: _lists(value) for key, value in dataclasses.asdict(row).items()}


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def checked(cls: Any, data: Any, where: str, format_name: str | None = None) -> dict[str, Any]:
    """The entries of ``data`` that make a ``cls``: all there, none other, each of its field's type.

    Raises ``OneDPError`` that begins with ``where`` and names every missing and unknown entry.
    """
    if not isinstance(data, Mapping):
        raise OneDPError(f"{where} is a {type(data).__name__}, expected an object.")
    fields = {field.name: str(field.type) for field in dataclasses.fields(cls)}
    expected = [*(["format"] if format_name else []), *fields]
    missing, unknown = [key for key in expected if key not in data], [key for key in data if key not in expected]
    if missing or unknown:
        parts = [f"{what} {', '.join(keys)}" for what, keys in (("missing", missing), ("unknown", unknown)) if keys]
        raise OneDPError(f"{where} does not have the expected entries: {'; '.join(parts)}.")
    if format_name and data["format"] != format_name:
        raise OneDPError(f"{where} has the format {data['format']!r}, expected '{format_name}'.")
    return {name: _typed(data[name], kind, f"{where}, {name}") for name, kind in fields.items()}


def _typed(value: Any, kind: str, where: str) -> Any:
    kinds = _KINDS.get(kind, (list,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise OneDPError(f"{where} is {value!r}, expected {kind}.")
    if kind == "tuple[float, float]":
        if len(value) != 2:
            raise OneDPError(f"{where} is {value!r}, expected two numbers [low, high].")
        low, high = (_typed(end, "float", where) for end in value)
        return low, high
    if value is None or not kind.startswith("float"):
        return value
    if not math.isfinite(value):
        raise OneDPError(f"{where} is {value!r}, expected a finite number.")
    return float(value)
