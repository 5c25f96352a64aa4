"""Our observation fields as the features of LeRobot's diffusion policy, and their statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from onedp.data.normalize import STATISTICS, Normalizer
from onedp.errors import OneDPError
from onedp.types import FieldSpec, PolicySpec

STATE, ENVIRONMENT, PICTURES = "observation.state", "observation.environment_state", "observation.images."
TASK_NAMES = {
    "pusht-keypoints": (f"{STATE}=agent_pos", f"{ENVIRONMENT}=keypoints"),
    "pusht-state": (f"{STATE}=agent_pos", f"{ENVIRONMENT}=block_pos,block_cos_sin"),
}
"""Task to what LeRobot calls its observations, THEIRS=OURS; the keypoints are those of gym-pusht's
``environment_state_agent_pos``."""
MODES = {"min_max": "MIN_MAX", "mean_std": "MEAN_STD", "identity": "IDENTITY"}
PIXELS = 255.0
EPSILON = 1e-8  # LeRobot adds it to the deviations of observations


@dataclass(frozen=True)
class Feature:
    """One feature of LeRobot's and the fields of ours that it holds, one after the other."""

    name: str
    kind: str
    """STATE, VISUAL, ENV or ACTION."""
    fields: tuple[FieldSpec, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """As in config.json: pictures are (3, H, W)."""
        if self.kind == "VISUAL":
            height, width, channels = self.fields[0].shape
            return (channels, height, width)
        return (sum(field.size for field in self.fields),)


def lerobot_features(spec: PolicySpec, task: str, renames: Sequence[str] = ()) -> tuple[Feature, ...]:
    """The observations of ``spec`` in the order of LeRobot's condition: state, pictures, environment state.

    ``renames``: THEIRS=OURS, or THEIRS=A,B for several vectors in one feature; default: the names of the ``task``, then
    names that already are LeRobot's. Raises ``OneDPError`` when a field has no place, or LeRobot takes no such policy.
    """
    known = {field.name: field for field in spec.observations}
    names = _parsed(renames or TASK_NAMES.get(task, ()), known)
    placed = {ours for group in names.values() for ours in group}
    for field in spec.observations:
        if field.name not in placed:
            names[_own_name(field)] = (field.name,)
    wrong = [name for name in names if name not in (STATE, ENVIRONMENT) and not _is_picture(names[name], known)]
    if wrong or STATE not in names or len(names) < 2:
        raise OneDPError(
            f"LeRobot's diffusion policy observes {STATE}, and beside it {ENVIRONMENT} or pictures; this policy "
            f"observes {', '.join(f'{each.name} {each.shape}' for each in spec.observations)}. Say what is what with "
            f"--rename THEIRS=OURS, or THEIRS=A,B for several: --rename {STATE}={spec.observations[0].name}"
        )
    features = [Feature(name, _kind(name), tuple(known[ours] for ours in group)) for name, group in names.items()]
    _check_shapes(features)
    order = ("STATE", "VISUAL", "ENV")
    return tuple(sorted(features, key=lambda feature: order.index(feature.kind)))  # stable: cameras as in the spec


def _own_name(field: FieldSpec) -> str:
    if field.name.startswith("observation.") or not field.is_image:
        return field.name
    return PICTURES + field.name


def _kind(name: str) -> str:
    return {STATE: "STATE", ENVIRONMENT: "ENV"}.get(name, "VISUAL")


def _is_picture(group: Sequence[str], known: Mapping[str, FieldSpec]) -> bool:
    return len(group) == 1 and known[group[0]].is_image


def _parsed(renames: Sequence[str], known: Mapping[str, FieldSpec]) -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for text in renames:
        theirs, equals, ours = text.partition("=")
        group = tuple(ours.split(","))
        if not equals or theirs in table or any(ours in each for each in table.values() for ours in group):
            raise OneDPError(f"--rename {text} is not possible. Expected THEIRS=OURS, each name once.")
        if unknown := [name for name in group if name not in known]:
            raise OneDPError(f"--rename {text}: the policy has no observation {unknown}; it has {', '.join(known)}.")
        table[theirs] = group
    return table


def _check_shapes(features: Sequence[Feature]) -> None:
    pictures = {feature.fields[0].shape for feature in features if feature.kind == "VISUAL"}
    if len(pictures) > 1:
        raise OneDPError(f"LeRobot's diffusion policy takes pictures of one size, this policy has {sorted(pictures)}.")
    vectors = [field for feature in features if feature.kind != "VISUAL" for field in feature.fields]
    if bad := [f"{field.name} {field.shape}" for field in vectors if len(field.shape) != 1]:
        raise OneDPError(f"LeRobot's states are vectors; {', '.join(bad)} is none.")
    if turning := [field.name for field in vectors if field.quaternions]:
        raise OneDPError(
            f"This policy's network reads the quaternions in {', '.join(turning)} as rotations, LeRobot's reads its "
            "states as they are. For LeRobot train with --task recorded, which knows of no quaternions."
        )


def normalization_mode(features: Sequence[Feature], normalizer: Normalizer) -> str:
    """MIN_MAX, MEAN_STD or IDENTITY: one for all ``features`` of a kind; MEAN_STD can be any of ours.

    Raw pixels are no identity there, where pictures lie in [0, 1].
    """
    modes = {normalizer.modes[field.name] for feature in features for field in feature.fields}
    pictures = any(feature.kind == "VISUAL" for feature in features)
    if len(modes) > 1 or (pictures and modes == {"identity"}):
        return "MEAN_STD"
    return MODES[modes.pop()]


def feature_statistics(feature: Feature, mode: str, normalizer: Normalizer) -> dict[str, ndarray]:
    """min, max, mean, std as LeRobot stores them, those that ``mode`` uses such that it normalises as we do.

    A dimension that is constant in our statistics gets the range that our normaliser gives it.
    """
    stats, centre, width = (
        {
            part: _joined(feature, [getattr(normalizer.stats[f.name], part) for f in feature.fields])
            for part in STATISTICS
        },
        _joined(feature, [normalizer.centre_width(f.name)[0] for f in feature.fields]),
        _joined(feature, [normalizer.centre_width(f.name)[1] for f in feature.fields]),
    )
    if mode == "MIN_MAX":
        stats |= {"min": centre - width, "max": centre + width}
    if mode == "MEAN_STD":
        stats |= {"mean": centre, "std": width - (0 if feature.kind == "ACTION" else EPSILON)}
    return {part: values.astype(np.float32) for part, values in stats.items()}


def _joined(feature: Feature, parts: Sequence[ndarray]) -> ndarray:
    values = np.concatenate([np.asarray(part, dtype=np.float64).reshape(-1) for part in parts])
    return values.reshape(3, 1, 1) / PIXELS if feature.kind == "VISUAL" else values
