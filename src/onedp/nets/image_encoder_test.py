"""Picture encoder: names of LeRobot's modules, sizes, spatial softmax, crops, fixed statistics."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from onedp.data.normalize import fit_normalizer
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import ArtifactError, OneDPError
from onedp.nets.build import build_denoiser, encoder_from_json, network_to_json
from onedp.nets.config import ImageEncoderConfig, StateEncoderConfig, UnetConfig
from onedp.nets.image_encoder import ImageEncoder, SpatialSoftmax, centre_crop
from onedp.nets.resnet import FrozenBatchNorm2d, resnet_features
from onedp.types import FieldSpec, PolicySpec

SPEC = PolicySpec(
    observations=(
        FieldSpec("top", (40, 50, 3), "1", "uint8"),
        FieldSpec("pose", (3,), "m"),
        FieldSpec("side", (40, 50, 3), "1", "uint8"),
    ),
    action=FieldSpec("action", (2,), "m"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    rate_hz=10.0,
    horizon=4,
    n_action_steps=2,
)


def observe(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {field.name: torch.randn(2, 2, *field.shape, generator=generator) for field in SPEC.observations}


@pytest.mark.parametrize(("name", "millions", "convolutions"), [("resnet18", 11.18, 20), ("resnet34", 21.28, 36)])
def test_resnet_has_the_sizes_and_names_of_torchvision(name, millions, convolutions):
    network = resnet_features(name, "batch")
    weights = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert sum(value.dim() == 4 for value in weights.values()) == convolutions
    assert weights["0.weight"].shape == (64, 3, 7, 7)
    assert {"1.running_var", "4.0.conv1.weight", "5.0.downsample.1.bias", "7.1.bn2.running_mean"} <= set(weights)
    assert "4.0.downsample.0.weight" not in weights  # the first stage neither halves nor widens
    assert network(torch.zeros(1, 3, 70, 33)).shape == (1, 512, 3, 2)


def test_batch_statistics_stay_those_of_the_checkpoint():
    norm = FrozenBatchNorm2d(2).train()
    norm.running_mean.copy_(torch.tensor([1.0, -1.0]))
    norm.running_var.fill_(4.0)
    out = norm(torch.full((1, 2, 1, 1), 3.0))
    torch.testing.assert_close(out.flatten(), torch.tensor([1.0, 2.0]), atol=1e-4, rtol=0)
    assert norm.running_mean.tolist() == [1.0, -1.0]


def test_spatial_softmax_finds_the_brightest_place():
    pool = SpatialSoftmax(1, height=3, width=5, keypoints=1)
    with torch.no_grad():
        pool.nets.weight.fill_(1.0)
        pool.nets.bias = None
        features = torch.zeros(1, 1, 3, 5)
        features[0, 0, 2, 1] = 100.0
        assert pool(features).tolist() == [[-0.5, 1.0]]  # x, then y
    with pytest.raises(OneDPError, match="larger than the picture"):
        ImageEncoder(ImageEncoderConfig(crop=(41, 50)), SPEC)


def test_crop_is_the_middle():
    picture = torch.arange(5.0)[None, None, :, None].expand(1, 1, 5, 4)
    assert centre_crop(picture, 3, 2)[0, 0, :, 0].tolist() == [1, 2, 3]
    assert centre_crop(picture, 2, 4)[0, 0, :, 0].tolist() == [2, 3]  # 1.5 is rounded to even, as in torchvision


@pytest.mark.parametrize(
    "config",
    [
        ImageEncoderConfig(keypoints=4, crop=(33, 32)),
        ImageEncoderConfig(pool="average", norm="batch", shared=True, resize=(33, 32)),
    ],
)
def test_features_stand_where_the_spec_says(config):
    torch.manual_seed(0)
    encoder = ImageEncoder(config, SPEC).eval()
    with torch.no_grad():
        before = encoder(observe(0))
        features = (encoder.output_dim // 2 - 3) // 2
        assert before.shape == (2, encoder.output_dim)
        assert features == (512 if config.pool == "average" else 8)
        changed = observe(0)
        changed["side"] = observe(1)["side"]
        different = (encoder(changed) != before).any(dim=0).view(2, -1)
        assert not different[:, : features + 3].any()
        assert different[:, features + 3 :].any(dim=1).all()
        assert torch.equal(before.view(2, 2, -1)[:, :, features : features + 3], observe(0)["pose"])
    assert len(encoder.rgb_encoder) == (1 if config.shared else 2)
    assert encoder_from_json({**network_to_json(config), "crop": list(config.crop) if config.crop else None}) == config


def test_pictures_outside_the_crop_do_not_matter():
    encoder = ImageEncoder(ImageEncoderConfig(keypoints=4, crop=(32, 32)), SPEC)
    seen, changed = observe(0), observe(0)
    changed["top"][:, :, :4] = 9.0
    with torch.no_grad():
        assert torch.equal(encoder(seen), encoder(changed))


def test_wrong_encoders_are_explained():
    with pytest.raises(OneDPError, match=r"\['top', 'side'\] are pictures, which need an image encoder, not 'state'"):
        build_denoiser(UnetConfig(channels=(8,)), SPEC, CosineDdpm(), "eps", StateEncoderConfig())
    with pytest.raises(ArtifactError, match="Unknown encoder 'imagge'"):
        encoder_from_json({"kind": "imagge"})
    with pytest.raises(ArtifactError, match=re.escape("Unknown backbone 'resnet50'")):
        resnet_features("resnet50", "group")


def test_statistics_of_pictures_are_one_a_channel():
    rng = np.random.default_rng(0)
    arrays = {
        field.name: rng.integers(0, 200, (7, *field.shape)).astype(field.dtype)
        for field in (*SPEC.observations, SPEC.action)
    }
    arrays["action"] = rng.normal(size=(7, 2)).astype(np.float32)
    normalizer = fit_normalizer(arrays, SPEC)
    assert normalizer.stats["top"].max.shape == (1, 1, 3)
    ends = np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1) * np.ones((1, *SPEC.observations[0].shape), np.uint8)
    black, white = normalizer.normalize("top", ends)  # whatever the darkest and brightest recorded pixels are
    assert (black == -1).all()
    assert (white == 1).all()
