"""What happens to observations before the denoiser: normalisation, and pictures to features."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from onedp.data.normalize import Normalizer
from onedp.nets.image_encoder import ImageEncoder
from onedp.policy import TorchPolicy


class CameraGraph(nn.Module):
    """Pictures (N, H, W, 3) of one camera, 0 to 255, to features (N, F)."""

    def __init__(self, policy: TorchPolicy, camera: str):
        super().__init__()
        encoder = copy.deepcopy(policy.denoiser.encoder)
        assert isinstance(encoder, ImageEncoder)
        self.encoder, self.camera = encoder, camera
        self.shape = next(field.shape for field in policy.spec.observations if field.name == camera)
        self.scale = Normalize(policy.normalizer, camera)
        self.requires_grad_(False).eval()

    def example_inputs(self) -> dict[str, Tensor]:
        """One black picture."""
        return {"pictures": torch.zeros(1, *self.shape)}

    def forward(self, pictures: Tensor) -> Tensor:
        return self.encoder.camera_features(self.camera, self.scale(pictures))


class Normalize(nn.Module):
    """``(x - centre) / width`` as the normaliser does it in float64, here in float32 with the centre in two parts.

    A range may be narrow beside its centre, where one float32 centre would cost digits.
    """

    centre_high: Tensor
    centre_low: Tensor
    gain: Tensor

    def __init__(self, normalizer: Normalizer, name: str):
        super().__init__()
        centre, width = centre_width(normalizer, name)
        high = centre.astype(np.float32)
        self.register_buffer("centre_high", torch.from_numpy(high))
        self.register_buffer("centre_low", torch.from_numpy((centre - high).astype(np.float32)))
        self.register_buffer("gain", torch.from_numpy((1 / width).astype(np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.centre_high) - self.centre_low) * self.gain


def centre_width(normalizer: Normalizer, name: str) -> tuple[np.ndarray, np.ndarray]:
    """float64 centre and width with ``normalised = (x - centre) / width``."""
    centre, width = normalizer.centre_width(name)
    return np.asarray(centre, dtype=np.float64), np.asarray(width, dtype=np.float64)
