"""Reading a foreign configuration strictly: every entry is used, known to be of no account, or an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onedp.errors import CheckpointError, did_you_mean

REQUIRED = object()


class Options:
    """Entries of a configuration, taken one by one; ``finish`` refuses those that nobody took."""

    def __init__(self, values: Any, where: str):
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{where} is no object with entries.")
        self._values, self._taken, self._where = values, set[str](), where

    def take(self, name: str, kind: type | tuple[type, ...], default: Any = REQUIRED) -> Any:
        """The entry ``name``, checked for its type; an int passes as a float. Raises ``CheckpointError``."""
        self._taken.add(name)
        if name not in self._values:
            if default is REQUIRED:
                raise CheckpointError(
                    f"{self._where} has no '{name}'.{did_you_mean(name, self._values)} Defaults differ between "
                    "versions, so none is assumed."
                )
            return default
        value, kinds = self._values[name], kind if isinstance(kind, tuple) else (kind,)
        if isinstance(value, int) and not isinstance(value, bool) and float in kinds:
            return float(value)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(each.__name__ for each in kinds)
            raise CheckpointError(f"{self._where}: '{name}' is {value!r}, expected {names}.")
        return value

    def numbers(self, name: str, default: Any = REQUIRED) -> tuple[int, ...] | None:
        """A list of whole numbers, or None where the entry is empty."""
        values = self.take(name, (list, type(None)), default)
        if values is None:
            return None
        if not all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in values):
            raise CheckpointError(f"{self._where}: '{name}' is {values!r}, expected whole numbers above 0.")
        return tuple(values)

    def only(self, name: str, allowed: Iterable[Any], default: Any = REQUIRED) -> Any:
        """An entry that must be one of the supported values."""
        self._taken.add(name)
        value, allowed = self._values.get(name, default), list(allowed)
        if value is REQUIRED or not any(value == each and type(value) is type(each) for each in allowed):
            found = "is missing" if value is REQUIRED else f"is {value!r}"
            raise CheckpointError(
                f"{self._where}: '{name}' {found}; supported: {', '.join(repr(each) for each in allowed)}."
            )
        return value

    def ignore(self, names: Iterable[str]) -> None:
        """Entries that do not change what the policy does."""
        self._taken |= set(names)

    def finish(self) -> None:
        """Raise ``CheckpointError`` on entries that nobody took: what they ask for would silently be missing."""
        unknown = sorted(set(self._values) - self._taken)
        if unknown:
            raise CheckpointError(
                f"{self._where} has the unknown entries {unknown}. They may change what the policy does, so it is not "
                "imported."
            )
