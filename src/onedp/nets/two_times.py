"""A denoiser that also knows the time it should arrive at, for methods that learn jumps along the teacher's ODE.

The second time enters where a backbone's first linear layer has read the first one, through weights that start at zero.
For a fixed arrival it is a constant of that layer, so what is saved is an ordinary denoiser without it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.schedule import NoiseSchedule, ddim_step
from onedp.errors import OneDPError
from onedp.nets.dit import Dit
from onedp.nets.mlp import Mlp
from onedp.nets.unet1d import SinusoidalEmbedding, Unet1d

TIME_EMBEDDING = 64


class ShiftedLinear(nn.Module):
    """A linear layer whose bias is moved, for each sample, by ``shift`` (B, features) while it is set."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.linear = linear
        self.shift: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return y if self.shift is None else y + self.shift


class JumpDenoiser(Denoiser):
    """``jump(x_t, t, s)``: along the ODE from time t to time s (arXiv 2310.02279, eq. 9).

    ``raw``, ``x0`` and the rest are those of arriving at clean data. Made of a denoiser, whose weights it takes over.
    """

    def __init__(self, denoiser: Denoiser):
        super().__init__(
            denoiser.encoder, denoiser.backbone, denoiser.schedule, denoiser.parameterization, denoiser.chunk_shape
        )
        holder, name = time_layer(self.backbone)
        layer = getattr(holder, name)
        assert isinstance(layer, nn.Linear)
        setattr(holder, name, ShiftedLinear(layer))
        self.arrival = nn.Sequential(
            SinusoidalEmbedding(TIME_EMBEDDING),
            nn.Linear(TIME_EMBEDDING, TIME_EMBEDDING),
            nn.Mish(),
            nn.Linear(TIME_EMBEDDING, layer.out_features, bias=False),
        )
        nn.init.zeros_(self.arrival[-1].weight)  # type: ignore[arg-type]

    def raw_to(self, x_t: Tensor, t: Tensor, s: Tensor, cond: Tensor) -> Tensor:
        """The network's output at times t on the way to times s, each (B,)."""
        holder, name = time_layer(self.backbone)
        layer = getattr(holder, name)
        layer.shift = self._shift(s)
        try:
            return super().raw(x_t, t, cond)
        finally:
            layer.shift = None

    def raw(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """On the way to clean data."""
        return self.raw_to(x_t, t, clean_time(self.schedule, t), cond)

    def jump(self, x_t: Tensor, t: Tensor, s: Tensor, cond: Tensor) -> Tensor:
        """x at times s from x at times t; exact for s = t whatever the weights."""
        c_skip, c_out, _ = self.coefficients(x_t, t)
        estimate = c_skip * x_t + c_out * self.raw_to(x_t, t, s, cond)
        return ddim_step(self.schedule, x_t, estimate, t, s)

    def _shift(self, s: Tensor) -> Tensor:
        return self.arrival(self.schedule.network_time(s))

    def without_arrival(self) -> Denoiser:
        """The ordinary denoiser that arrives at clean data; shares nothing with this one."""
        whole = copy.deepcopy(self)
        holder, name = time_layer(whole.backbone)
        linear = getattr(holder, name).linear
        zero = torch.zeros(1, dtype=torch.float32, device=linear.weight.device)
        with torch.no_grad():
            linear.bias += whole._shift(clean_time(self.schedule, zero))[0]
        setattr(holder, name, linear)
        plain = Denoiser(whole.encoder, whole.backbone, whole.schedule, whole.parameterization, whole.chunk_shape)
        return plain.train(self.training)


def clean_time(schedule: NoiseSchedule, like: Tensor) -> Tensor:
    """The smallest time of the process for each sample of ``like`` (B,)."""
    return schedule.ode_times(torch.ones_like(like, dtype=torch.float32))


def time_layer(backbone: nn.Module) -> tuple[nn.Module, str]:
    """Where a backbone's linear layer that reads the time is: its holder and its name there. Raises ``OneDPError``."""
    if isinstance(backbone, Unet1d):
        return backbone.diffusion_step_encoder, "3"
    if isinstance(backbone, (Mlp, Dit)):
        return backbone.cond_encoder, "0"
    raise OneDPError(f"Methods that learn jumps need a U-Net, MLP or transformer, not {type(backbone).__name__}.")
