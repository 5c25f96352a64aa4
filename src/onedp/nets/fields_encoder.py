"""What all encoders share: fields to one condition vector, in the spec's order within each observation step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onedp.types import FieldSpec, PolicySpec

SIX = 6
"""Numbers of a rotation."""


class FieldsEncoder(nn.Module):
    """``{name: (B, To, *shape)} -> (B, To * features)``. Encoders of pictures and points say how these are read.

    Quantities are passed on as they are, a quaternion as the six numbers of its rotation (Zhou et al., arXiv
    1812.07035): simulators give it either sign, which jumps wherever w passes 0. An index becomes a row of zeros with
    a one: every network begins with a linear layer on the condition, whose columns for these places are the learned
    embedding of each value. An index outside its range is a row of zeros.
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
        return field.size * (field.classes or 1) + (SIX - 4) * len(field.quaternions)

    def encode_field(self, field: FieldSpec, values: Tensor) -> Tensor:
        """``(B, To, *shape) -> (B, To, encoded size)``."""
        flat = values.flatten(2)
        if field.classes is not None:
            return one_hot(flat, field.classes).flatten(2)
        parts: list[Tensor] = []
        end = 0
        for start in field.quaternions:
            parts += [flat[..., end:start], six_numbers(flat[..., start : start + 4])]
            end = start + 4
        parts.append(flat[..., end:])
        return torch.cat(parts, dim=-1)

    def forward(self, nobs: Mapping[str, Tensor]) -> Tensor:
        steps = [self.encode_field(field, nobs[field.name]) for field in self.fields]
        return torch.cat(steps, dim=-1).flatten(1)


def one_hot(values: Tensor, classes: int) -> Tensor:
    """``(...) -> (..., classes)`` of the values' type; unlike PyTorch's, for floats too and traceable."""
    places = torch.arange(classes, device=values.device, dtype=values.dtype)
    return (values.round().unsqueeze(-1) == places).to(values.dtype)


def six_numbers(quaternions: Tensor) -> Tensor:
    """``(..., 4) -> (..., 6)``: the first two rows of the rotation matrix of unit quaternions (x, y, z, w).

    As ``onedp.data.rotations`` has them, but without a division: zeros, which no rotation is, stay zeros.
    """
    x, y, z, w = quaternions.unbind(-1)
    first = (w * w + x * x - y * y - z * z, 2 * (x * y - z * w), 2 * (x * z + y * w))
    second = (2 * (x * y + z * w), w * w - x * x + y * y - z * z, 2 * (y * z - x * w))
    return torch.stack((*first, *second), dim=-1)
