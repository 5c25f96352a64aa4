"""A network that also reads what was planned before, so that one pass can go on from it (real-time chunking).

The plan and its weights stand behind the condition, where every backbone's first layers read them; without a plan they
are zeros. So a student begins as its teacher, with zeros for the new columns, and without those columns it is an
ordinary network again, which answers as this one does without a plan.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from onedp.diffusion.denoiser import Denoiser
from onedp.types import PolicySpec


def plan_size(spec: PolicySpec) -> int:
    """Numbers of a plan: actions and a weight for each step of the network's chunk."""
    return spec.horizon * (spec.action_dim + 1)


class PrefixBackbone(nn.Module):
    """``inner`` with a condition of ``cond_dim`` numbers, or of these and a plan: ``(B, Tp, Da) -> (B, Tp, Da)``."""

    def __init__(self, inner: nn.Module, cond_dim: int, plan: int):
        """``inner`` reads conditions of ``cond_dim + plan`` numbers."""
        super().__init__()
        self.inner = inner
        self.cond_dim = cond_dim
        self.plan = plan

    def forward(self, chunk: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        if cond.shape[-1] == self.cond_dim:
            cond = nn.functional.pad(cond, (0, self.plan))
        return self.inner(chunk, t, cond)


def with_plan(
    cond: Float[Tensor, "b c"], planned: Float[Tensor, "b tp da"], weights: Float[Tensor, "b tp"]
) -> Float[Tensor, "b cp"]:
    """The condition of a ``PrefixBackbone`` that goes on from ``planned`` (normalised) where ``weights`` say so."""
    return torch.cat([cond, (weights[..., None] * planned).flatten(1), weights], dim=-1)


def start_as(student: Denoiser, teacher: Denoiser) -> None:
    """Give a student that reads plans the weights of a teacher of the same network, and zeros for the plan."""
    own, theirs = student.state_dict(), teacher.state_dict()
    widened = {}
    for key, value in own.items():
        weight = theirs[_plain_key(key)]
        more = value.shape[-1] - weight.shape[-1] if weight.dim() else 0  # columns of the plan
        widened[key] = nn.functional.pad(weight, (0, more)) if more else weight
    student.load_state_dict(widened)
    student.parameterization = teacher.parameterization


def without_plan(denoiser: Denoiser, plain: Denoiser) -> Denoiser:
    """``plain``, the same network built without plans, with the weights of ``denoiser``: equal where there is none.

    The columns of the plan, which only ever met zeros then, are left out.
    """
    theirs = denoiser.state_dict()
    wide_key = {_plain_key(key): key for key in theirs}
    weights: dict[str, Tensor] = {}
    for key, value in plain.state_dict().items():
        wide = theirs[wide_key[key]]
        weights[key] = wide[:, : value.shape[1]] if wide.shape != value.shape else wide
    plain.load_state_dict(weights)
    return plain.requires_grad_(False).eval()


def _plain_key(key: str) -> str:
    """Name of a weight of a ``PrefixBackbone``'s denoiser in the ordinary one; encoders may have a backbone too."""
    inner = "backbone.inner."
    return "backbone." + key.removeprefix(inner) if key.startswith(inner) else key
