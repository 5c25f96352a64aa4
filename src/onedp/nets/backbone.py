"""What all backbones have in common: a type, so that others can find them inside of whatever wraps them."""

from __future__ import annotations

from torch import nn


class Backbone(nn.Module):
    """A network with weights of its own that answers for a chunk: ``(B, Tp, Da), (B,), (B, cond_dim) -> (B, Tp, Da)``.

    Training and acting call it (its ``forward``), also through wrappers (Gaussian heads, plans), which are none
    themselves: so one call is one pass of all its weights, which is how the benchmark counts what training costs.
    """
