"""Encoder of low-dimensional observations: all fields and observation steps in one vector, no weights."""

from __future__ import annotations

from onedp.errors import OneDPError
from onedp.nets.fields_encoder import FieldsEncoder
from onedp.types import PolicySpec


class StateEncoder(FieldsEncoder):
    """``{name: (B, To, *shape)} -> (B, To * sum of sizes)``, fields in the spec's order within each step.

    Raises ``OneDPError`` when the spec has pictures.
    """

    def __init__(self, spec: PolicySpec):
        super().__init__(spec)
        if pictures := [field.name for field in spec.observations if field.is_image]:
            raise OneDPError(f"The observations {pictures} are pictures, which need an image encoder, not 'state'.")
