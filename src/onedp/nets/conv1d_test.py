"""Convolutions as products: the numbers, the keys and the gradients of PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onedp.nets import conv1d
from onedp.nets.conv1d import Conv1d, ConvTranspose1d


@pytest.fixture(autouse=True, params=["few rows", "few steps"])
def always(monkeypatch, request):
    monkeypatch.setattr(conv1d, "FEW_ROWS", 1000 if request.param == "few rows" else 0)
    monkeypatch.setattr(conv1d, "FEW_STEPS", 1000 if request.param == "few steps" else 0)
    monkeypatch.setattr(conv1d, "MANY_WEIGHTS", 0)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


CONVOLUTIONS = [(3, 5, 5, 1, 2), (4, 4, 3, 2, 1), (2, 6, 1, 1, 0), (3, 3, 4, 3, 0)]
TRANSPOSED = [(3, 5, 4, 2, 1), (4, 4, 2, 2, 0), (2, 6, 3, 2, 1), (3, 3, 5, 1, 2), (3, 2, 2, 3, 0)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("ours", "original", "shape"),
    [
        *((Conv1d, nn.Conv1d, shape) for shape in CONVOLUTIONS),
        *((ConvTranspose1d, nn.ConvTranspose1d, shape) for shape in TRANSPOSED),
    ],
)
def test_products_are_the_convolutions(ours, original, shape, bias):
    torch.manual_seed(0)
    *sizes, stride, padding = shape
    layer = ours(*sizes, stride=stride, padding=padding, bias=bias)
    reference = original(*sizes, stride=stride, padding=padding, bias=bias)
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(2, sizes[0], 8, requires_grad=True)
    answer, expected = layer(x), reference(x)
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(expected)
    for mine, theirs in zip(
        torch.autograd.grad((answer * weights).sum(), [x, *layer.parameters()]),
        torch.autograd.grad((expected * weights).sum(), [x, *reference.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_large_batches_and_small_layers_stay_convolutions(monkeypatch):
    monkeypatch.setattr(conv1d, "FEW_ROWS", 8)
    monkeypatch.setattr(conv1d, "FEW_STEPS", 4)
    monkeypatch.setattr(conv1d, "MANY_WEIGHTS", 10)
    layer = Conv1d(2, 3, 5, padding=2)
    for x in (torch.randn(1, 2, 8), torch.randn(2, 2, 8)):
        names = {node.name for node in _operations(layer, x)}
        assert ("aten::addmm" in names) == (x.shape[0] == 1)
        assert ("aten::convolution" in names) == (x.shape[0] == 2)


def _operations(layer: nn.Module, x: torch.Tensor) -> list:
    with torch.profiler.profile() as profile:
        layer(x)
    return list(profile.events())


@pytest.mark.parametrize(
    ("capability", "bf16", "product"), [("AVX2", False, 1), ("AVX512", False, 0), ("AVX512", True, 1)]
)
def test_batches_are_products_where_these_are_faster(monkeypatch, capability, bf16, product):
    monkeypatch.setattr(conv1d, "FEW_ROWS", 0)
    monkeypatch.setattr(conv1d, "FEW_STEPS", 8)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    layer = Conv1d(2, 3, 5, padding=2)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        assert ("aten::convolution" not in {node.name for node in _operations(layer, torch.randn(9, 2, 8))}) == product


def test_very_large_layers_are_products_everywhere(monkeypatch):
    monkeypatch.setattr(conv1d, "FEW_ROWS", 0)
    monkeypatch.setattr(conv1d, "VERY_MANY_WEIGHTS", 30)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    x = torch.randn(300, 2, 4)
    monkeypatch.setattr(conv1d, "FEW_STEPS", 4)
    for outputs, product in ((2, False), (3, True)):  # 20 and 30 weights
        layer = Conv1d(2, outputs, 5, padding=2)
        assert ("aten::convolution" not in {node.name for node in _operations(layer, x)}) == product
