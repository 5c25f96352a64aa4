"""``--resume`` stands alone: a run is continued with the options it was begun with."""

from __future__ import annotations

import dataclasses
from typing import Any

from onedp.errors import OneDPError


def only_resume(options: Any) -> None:
    """Raise ``OneDPError`` when any option but ``resume`` of the dataclass ``options`` differs from its default."""
    given = [
        field.name.replace("_", "-")
        for field in dataclasses.fields(options)
        if field.name != "resume" and getattr(options, field.name) != _default(field)
    ]
    if given:
        raise OneDPError(
            f"--resume continues a run with the options it was begun with; leave out {', '.join(given)}, or begin "
            "another run with --out."
        )


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
