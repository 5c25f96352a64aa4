"""What all encoders share: fields to one condition vector, in the spec's order within each observation step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onedp.types import FieldSpec, PolicySpec


class FieldsEncoder(nn.Module):
    """``{name: (B, To, *shape)} -> (B, To * features)``. Encoders of pictures and points say how these are read.

    Quantities are passed on as they are. An index becomes a row of zeros with a one: every network begins with a linear
    layer on the condition, whose columns for these places are the learned embedding of each value. An index outside its
    range is a row of zeros.
    """

    def __init__(self, spec: PolicySpec):
        super().__init__()
        self.fields = spec.observations
        self.n_obs_steps = spec.n_obs_steps

    @property
    def output_dim(self) -> int:
        """Length of the condition."""
        return self.n_obs_steps * sum(self.encoded_size(field) for field in self.fields)

    def encoded_size(self, field: FieldSpec) -> int:
        """Numbers that a field brings to one observation step of the condition."""
        return field.size if field.classes is None else field.size * field.classes

    def encode_field(self, field: FieldSpec, values: Tensor) -> Tensor:
        """``(B, To, *shape) -> (B, To, encoded size)``."""
        flat = values.flatten(2)
        return flat if field.classes is None else one_hot(flat, field.classes).flatten(2)

    def forward(self, nobs: Mapping[str, Tensor]) -> Tensor:
        steps = [self.encode_field(field, nobs[field.name]) for field in self.fields]
        return torch.cat(steps, dim=-1).flatten(1)


def one_hot(values: Tensor, classes: int) -> Tensor:
    """``(...) -> (..., classes)`` of the values' type; unlike PyTorch's, for floats too and traceable."""
    places = torch.arange(classes, device=values.device, dtype=values.dtype)
    return (values.round().unsqueeze(-1) == places).to(values.dtype)
