"""Which recorded array feeds which field: one vocabulary over the names of zarr, LeRobot and robomimic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onedp.data.recording import Recording
from onedp.errors import DataError, did_you_mean

FORMS = ("{}", "obs/{}", "observation.{}", "observation.images.{}")
"""How a field's array may be named, in order of preference: zarr and npz, robomimic, LeRobot."""

SYNONYMS = {
    "action": ("actions",),
    "agent_pos": ("observation.state",),  # lerobot/pusht
    "img": ("observation.image", "image"),
    "image": ("observation.image", "img"),
}
"""Arrays that other formats name in another way."""


def recorded_keys(
    recording: Recording, names: Iterable[str], chosen: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Field to recorded array: the ``chosen`` one, else that of the field's name in any format's form.

    Fields without an array are left out. Raises ``DataError`` when a chosen array is not there.
    """
    chosen = chosen or {}
    found = {}
    for name in names:
        if name in chosen:
            if chosen[name] not in recording.headers:
                raise DataError(
                    f"{recording.source} has no '{chosen[name]}', which was chosen for '{name}'."
                    f"{did_you_mean(chosen[name], recording.headers)} It has {sorted(recording.headers)}."
                )
            found[name] = chosen[name]
            continue
        candidates = (*(form.format(name) for form in FORMS), *SYNONYMS.get(name, ()))
        key = next((each for each in candidates if each in recording.headers), None)
        if key is not None:
            found[name] = key
    return found
