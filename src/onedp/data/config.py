"""Choices about data that configs name. Imports nothing heavy, so ``--help`` is fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from onedp.errors import DataError

NormalizationMode = Literal["min_max", "mean_std", "identity"]
RotationForm = Literal["quaternion-xyzw", "quaternion-wxyz", "axis-angle", "euler-xyz", "6d"]


@dataclass(frozen=True)
class ReadingConfig:
    """How a data set is read; changes no number of what is read."""

    skip_bad_episodes: bool = False
    """Leave out episodes that cannot be used (and say which), instead of stopping at the first."""
    split: str | None = None
    """Only this split of the data set, such as robomimic's "train"; None: all episodes."""
    frame_cache: Path | None = None
    """Folder for decoded pictures, memory-mapped; None: they are decoded each time they are needed."""


@dataclass(frozen=True)
class ActionConvention:
    """How actions are converted for training. The default takes them as they are recorded.

    The state, where one is needed, begins with the same numbers as the recorded action (position, rotation); what the
    action has beyond ``relative_dims``, such as a gripper's command, is kept.
    """

    reference: Literal["recorded", "delta", "absolute"] = "recorded"
    """delta: recorded absolute actions become their difference from the state of the same step; absolute: recorded
    differences become absolute; recorded: neither."""
    state: str = ""
    """Recorded array with the state that differences are from."""
    relative_dims: int | None = None
    """How many of the action's first numbers are relative; None: as many as the state has."""
    rotation_at: int | None = None
    """Index of the first number of a rotation in the recorded action; None: there is none, or it is of no account."""
    rotation_form: RotationForm = "axis-angle"
    """Its recorded form, in the state too."""
    learned_rotation: RotationForm | None = None
    """Form that the policy learns; None: as recorded. 6d has no jumps."""

    def __post_init__(self) -> None:
        if self.reference != "recorded" and not self.state:
            raise DataError(f"Actions as '{self.reference}' need the state they are relative to: --action.state NAME.")
        if self.learned_rotation is not None and self.rotation_at is None:
            raise DataError("A form for the learned rotation needs to know where it is: --action.rotation-at INDEX.")

    @property
    def changes_nothing(self) -> bool:
        """Whether actions are taken as they are."""
        return self.reference == "recorded" and self.learned_rotation in (None, self.rotation_form)


@dataclass(frozen=True)
class RecordedConfig:
    """Which arrays of a data set a policy sees and how its actions are meant."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """Field of the policy to recorded array. For the task ``recorded``: exactly these are observed; empty: all arrays
    that are named as observations (``observation.*``, ``obs/*``)."""
    rate_hz: float | None = None
    """Control rate [Hz]; None: the data set's own."""
    action: ActionConvention = field(default_factory=ActionConvention)
    """Convention of the learned actions."""
    quaternions: tuple[str, ...] = ()
    """Where observations hold unit quaternions (x, y, z, w), as FIELD:PLACE, such as pose:3 (for the task ``recorded``;
    the others say it themselves). They are read as rotations."""
