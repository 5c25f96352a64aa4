"""JSON to frozen dataclasses, every entry of its type; what is wrong is said in the file's words, not Python's."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import dacite

from onedp.errors import ArtifactError, OneDPError, unknown_choice

T = TypeVar("T")


def from_json(cls: type[T], data: Any, what: str, error: type[OneDPError] = ArtifactError) -> T:
    """``data`` (an object of JSON) as the dataclass ``cls``; entries that have a default may be left out.

    Raises ``error``, which begins with ``what``: unknown and missing entries, entries of another type, and whatever
    ``cls`` itself refuses.
    """
    if not isinstance(data, Mapping):
        raise error(f"{what} is {_shown(data)}, expected an object.")
    config = dacite.Config(strict=True, type_hooks={float: _number, int: _whole})
    try:
        return dacite.from_dict(cls, _tuples(data), config)
    except OneDPError:
        raise  # what the class itself refuses
    except dacite.UnexpectedDataError as problem:
        raise error(f"{what} has the unknown entries {sorted(map(str, problem.keys))}.") from problem
    except dacite.MissingValueError as problem:
        raise error(f"{what} has no entry '{problem.field_path}'.") from problem
    except dacite.WrongTypeError as problem:
        raise error(
            f"{what}: '{problem.field_path}' is {_shown(problem.value)}, expected {_type_name(problem.field_type)}."
        ) from problem
    except ValueError as problem:  # dacite iterates over an object in a list's place, and makes dicts of its keys
        raise error(f"{what} holds an object where a list of others belongs, or the reverse.") from problem


def kind_from_json(table: Mapping[str, type[T]], data: Mapping[str, Any], what: str) -> T:
    """The entry ``kind`` of ``data`` chooses the class from ``table``, the others fill it; raises ``ArtifactError``."""
    kind = data.get("kind", "")
    if not isinstance(kind, str) or kind not in table:
        raise ArtifactError(unknown_choice(what, kind if isinstance(kind, str) else _shown(kind), table))
    return from_json(table[kind], {key: value for key, value in data.items() if key != "kind"}, f"The {what}")


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file of an artifact; raises ``ArtifactError``, also for NaN and infinity."""
    try:
        data = json.loads(path.read_text(), parse_constant=_not_json)
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read: {error.strerror}. Is this a complete policy folder? Copy or download "
            "it again, whole."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON: {error}. Restore the file.") from error
    if not isinstance(data, dict):
        raise ArtifactError(f"{path} holds {_shown(data)}, expected a JSON object.")
    return data


def _not_json(name: str) -> None:
    raise ValueError(f"it holds {name}")


def _number(value: Any) -> Any:
    """A whole number is good for a float; anything else is left for dacite to refuse."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _whole(value: Any) -> Any:
    return "true" if value is True else "false" if value is False else value  # bool is an int to dacite


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    if isinstance(value, str) and value.startswith("<generator object"):  # dacite's, of a text in a list's place
        return "a text"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _type_name(kind: Any) -> str:
    """A type as a reader of JSON calls it."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_type_name(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        inner = _type_name(typing.get_args(kind)[0])
        return f"a list of {inner.removeprefix('an ').removeprefix('a ')}s"
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {list(typing.get_args(kind))}"
    words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
    return words.get(kind, "an object")
