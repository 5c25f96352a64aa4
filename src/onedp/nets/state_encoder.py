"""Encoder of low-dimensional observations: all fields and observation steps in one vector, no weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onedp.types import PolicySpec


class StateEncoder(nn.Module):
    """``{name: (B, To, *shape)} -> (B, To * sum of sizes)``, fields in the spec's order within each step."""

    def __init__(self, spec: PolicySpec):
        super().__init__()
        self.names = [field.name for field in spec.observations]
        self.output_dim = spec.n_obs_steps * sum(field.size for field in spec.observations)

    def forward(self, nobs: Mapping[str, Tensor]) -> Tensor:
        steps = torch.cat([nobs[name].flatten(2) for name in self.names], dim=-1)  # (B, To, Do)
        return steps.flatten(1)
