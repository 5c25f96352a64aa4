"""Layers in the form that CPU runtimes run fastest at batch 1; same numbers up to rounding.

Measured with ONNX Runtime 1.32, one thread of a busy machine: a convolution of 2048 channels over 4 steps takes 17 ms
as ``Conv``, which lays out its weights anew at every call, and 8 ms as ``MatMul``, whose constant operand is packed
once, at loading. OpenVINO gains a tenth from it too in float32; in bfloat16 its own convolutions are better: the U-Net
(512, 1024, 2048) takes 22 ms with them and 28 ms with products. ``Softplus`` runs number by number; ``Exp`` is
vectorised.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onedp.nets.conv1d import overlap_add


@dataclass(frozen=True)
class Form:
    """What a graph's layers are made of."""

    products: bool
    """1-D convolutions as matrix products."""
    fast_mish: bool
    """Mish of few vectorised operations; OpenVINO recognises the usual form and has a kernel for it."""


FOR_ONNXRUNTIME = Form(products=True, fast_mish=True)
FOR_OPENVINO = Form(products=True, fast_mish=False)
FOR_OPENVINO_BF16 = Form(products=False, fast_mish=False)


class ConvAsMatmul(nn.Module):
    """``Conv1d`` as a gather of the taps and one matrix product: ``(B, C_in, T) -> (B, C_out, T')``."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv1d):
        super().__init__()
        self.taps, self.stride, self.padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        self.channels = conv.in_channels
        weight = conv.weight.permute(2, 1, 0).reshape(-1, conv.out_channels)  # (taps * C_in, C_out)
        self.register_buffer("weight", weight.contiguous().detach())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        steps = x.transpose(1, 2)  # (B, T, C_in)
        if self.padding:
            steps = nn.functional.pad(steps, (0, 0, self.padding, self.padding))
        if self.taps > 1 or self.stride > 1:
            starts = torch.arange(0, int(x.shape[2]) + 2 * self.padding - self.taps + 1, self.stride)
            windows = (starts[:, None] + torch.arange(self.taps)).flatten()
            steps = steps.index_select(1, windows).reshape(-1, len(starts), self.taps * self.channels)
        out = steps @ self.weight
        return (out if self.bias is None else out + self.bias).transpose(1, 2)


class ConvTransposeAsMatmul(nn.Module):
    """``ConvTranspose1d`` as one matrix product and shifted sums: ``(B, C_in, T) -> (B, C_out, T')``."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.ConvTranspose1d):
        super().__init__()
        self.taps, self.stride, self.padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        self.channels = conv.out_channels
        weight = conv.weight.permute(0, 2, 1).flatten(1)  # (C_in, taps * C_out)
        self.register_buffer("weight", weight.contiguous().detach())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        parts = (x.transpose(1, 2) @ self.weight).unflatten(2, (self.taps, self.channels))
        out = overlap_add(parts, self.stride, self.padding)  # (B, T', C_out)
        return (out if self.bias is None else out + self.bias).transpose(1, 2)


class FastMish(nn.Module):
    """``x tanh(softplus(x))`` as ``x n / (n + 2)`` with ``n = e^x (e^x + 2)``, e^x held below overflow."""

    def forward(self, x: Tensor) -> Tensor:
        e = x.clamp(max=20.0).exp()  # beyond 20 the quotient is 1 in float32
        n = e * (e + 2)
        return x * (n / (n + 2))


def _plain(conv: nn.Conv1d | nn.ConvTranspose1d) -> bool:
    simple = conv.groups == 1 and conv.dilation[0] == 1 and conv.output_padding[0] == 0
    return simple and conv.padding_mode == "zeros" and conv.padding != "same"


def reshape_layers(module: nn.Module, form: Form) -> None:
    """Replace, in place and at every depth, the layers that ``form`` has another kind of."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv1d | nn.ConvTranspose1d) and _plain(child):
            setattr(module, name, _as_product(child) if form.products else _as_convolution(child))
        elif isinstance(child, nn.Mish) and form.fast_mish:
            setattr(module, name, FastMish())
        else:
            reshape_layers(child, form)


def _as_product(conv: nn.Conv1d | nn.ConvTranspose1d) -> nn.Module:
    return ConvAsMatmul(conv) if isinstance(conv, nn.Conv1d) else ConvTransposeAsMatmul(conv)


def _as_convolution(conv: nn.Conv1d | nn.ConvTranspose1d) -> nn.Module:
    """PyTorch's own layer: ours chooses between two ways by the size of its input, which a trace cannot hold."""
    kind = nn.Conv1d if isinstance(conv, nn.Conv1d) else nn.ConvTranspose1d
    sizes = (conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0], int(conv.padding[0]))
    plain = kind(*sizes, bias=conv.bias is not None)
    plain.load_state_dict(conv.state_dict())
    return plain
