"""Encoders of point clouds and indices, the light picture network, and which encoder a spec gets."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from onedp.data.rotations import matrix_from_quaternion
from onedp.errors import ArtifactError, OneDPError
from onedp.nets.build import build_encoder, encoder_from_json, network_to_json
from onedp.nets.config import EncoderName, ImageEncoderConfig, PointEncoderConfig, StateEncoderConfig
from onedp.nets.encoder_choice import fitting_encoder, named_encoder
from onedp.nets.fields_encoder import one_hot
from onedp.nets.light_cnn import light_features
from onedp.tasks import PUSHT_STATE
from onedp.types import FieldSpec, PolicySpec

PICTURE = FieldSpec("top", (96, 80, 3), "1", "uint8")
CLOUD = FieldSpec("cloud", (9, 3), "m")
POSE = FieldSpec("pose", (3,), "m")
TASK = FieldSpec("task", (1,), "1", "int64", classes=3)


def spec_of(*observations: FieldSpec) -> PolicySpec:
    return replace(PUSHT_STATE.spec, observations=observations)


def test_the_order_of_points_does_not_matter_but_each_point_may():
    torch.manual_seed(0)
    encoder = build_encoder(PointEncoderConfig(widths=(8, 16), features=6), spec_of(POSE, CLOUD))
    pose, cloud = torch.randn(2, 2, 3), torch.randn(2, 2, 9, 3)
    with torch.no_grad():
        out = encoder({"pose": pose, "cloud": cloud})
        assert out.shape == (2, encoder.output_dim) == (2, 2 * (3 + 6))
        torch.testing.assert_close(out, encoder({"pose": pose, "cloud": cloud.flip(2)}))
        assert torch.equal(out.view(2, 2, 9)[..., :3], pose)
        moved = cloud.clone()
        moved[:, 1, 4] += 3.0
        changed = (out != encoder({"pose": pose, "cloud": moved})).view(2, 2, 9).any(dim=-1)
        assert changed.tolist() == [[False, True]] * 2


def test_point_statistics_are_one_a_channel():
    assert CLOUD.stats_shape == (1, 3)
    assert FieldSpec("cloud", (512, 6), "m").is_point_cloud
    assert FieldSpec("corners", (8, 2), "m").stats_shape == (8, 2)


def test_an_index_is_a_row_with_a_one_and_nothing_outside_its_range():
    encoder = build_encoder(StateEncoderConfig(), spec_of(TASK, POSE))
    nobs = {"task": torch.tensor([[[0.0], [2.0]], [[1.0], [7.0]]]), "pose": torch.ones(2, 2, 3)}
    assert encoder(nobs).view(2, 2, 6)[..., :3].tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 0]]]
    assert encoder.output_dim == 12
    torch.testing.assert_close(one_hot(torch.arange(4), 4), torch.eye(4, dtype=torch.int64))


def test_a_quaternion_is_read_as_its_rotation_whatever_its_sign():
    arm = FieldSpec("arm", (11,), "m and quaternions", quaternions=(1, 7))
    encoder = build_encoder(StateEncoderConfig(), spec_of(POSE, arm))
    rng = np.random.default_rng(0)
    turns = rng.standard_normal((2, 5, 2, 4))
    turns = (turns / np.linalg.norm(turns, axis=-1, keepdims=True)).astype(np.float32)  # (which, B, To, 4)
    others = rng.standard_normal((5, 2, 3)).astype(np.float32)
    pose = torch.randn(5, 2, 3)

    def condition(signs: tuple[int, int]) -> torch.Tensor:
        first, second = (sign * turn for sign, turn in zip(signs, turns, strict=True))
        values = np.concatenate([others[..., :1], first, others[..., 1:], second], axis=-1)
        return encoder({"pose": pose, "arm": torch.from_numpy(values)}).view(5, 2, -1)

    found = condition((1, 1))
    assert encoder.output_dim == 2 * found.shape[-1] == 2 * (3 + 11 + 2 * 2)
    rows = [matrix_from_quaternion(turn)[..., :2, :].reshape(5, 2, 6) for turn in turns]
    expected = np.concatenate([pose.numpy(), others[..., :1], rows[0], others[..., 1:], rows[1]], axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for signs in ((-1, 1), (1, -1), (-1, -1)):
        assert torch.equal(condition(signs), found)


def test_the_first_linear_layer_is_the_embedding_of_an_index():
    table = torch.nn.Embedding(3, 5)
    linear = torch.nn.Linear(3, 5, bias=False)
    linear.weight.data = table.weight.data.T
    index = torch.tensor([2, 0, 1])
    torch.testing.assert_close(linear(one_hot(index, 3).float()), table(index))


def test_the_light_network_is_light_and_keeps_a_fine_map():
    network = light_features()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(0.243e6, rel=0.02)
    assert network(torch.zeros(1, 3, 84, 61)).shape == (1, 128, 11, 8)
    encoder = build_encoder(ImageEncoderConfig(backbone="light", crop=(84, 70)), spec_of(PICTURE, POSE))
    grid = encoder.rgb_encoder[0].pool.pos_grid  # type: ignore[union-attr, index]
    assert grid.shape == (11 * 9, 2)
    with pytest.raises(ArtifactError, match="light image encoder has group normalisation only, not 'batch'"):
        build_encoder(ImageEncoderConfig(backbone="light", norm="batch"), spec_of(PICTURE))


@pytest.mark.parametrize(
    ("fields", "name"),
    [((POSE, TASK), "state"), ((POSE, PICTURE), "resnet18"), ((CLOUD, POSE), "points")],
)
def test_the_observations_choose_the_encoder(fields, name):
    spec = spec_of(*fields)
    assert fitting_encoder(spec) == name
    config = named_encoder(name, spec)
    assert encoder_from_json(network_to_json(config)) == config
    assert build_encoder(config, spec).output_dim > 0


def test_pictures_are_cropped_at_random_in_training_only():
    config = named_encoder("resnet18", spec_of(PICTURE, FieldSpec("side", (48, 96, 3), "1", "uint8")))
    assert isinstance(config, ImageEncoderConfig)
    assert config.crop == config.training_crop == (42, 70)
    assert ImageEncoderConfig().training_crop is None
    assert ImageEncoderConfig(crop=(42, 70), resize=(50, 90)).training_crop is None
    assert named_encoder("light", spec_of(PICTURE), (80, 64)).training_crop == (80, 64)
    assert {named_encoder(name, spec_of(POSE)).training_crop for name in get_args(EncoderName)} == {None}


def test_a_part_cut_out_before_is_read_as_it_is():
    """What the loader cuts out in training has the crop's size already; acting cuts the middle out of everything."""
    torch.manual_seed(0)
    spec = spec_of(PICTURE)
    encoder = build_encoder(ImageEncoderConfig(backbone="light", keypoints=4, crop=(84, 70)), spec)
    picture = torch.randn(1, 2, 96, 80, 3)
    with torch.no_grad():
        torch.testing.assert_close(encoder({"top": picture}), encoder({"top": picture[:, :, 6:90, 5:75]}))
        assert not torch.allclose(encoder({"top": picture}), encoder({"top": picture[:, :, :84, :70]}))


def test_encoders_that_do_not_fit_are_explained():
    with pytest.raises(OneDPError, match=r"No encoder reads pictures \(top\) and point clouds \(cloud\) together"):
        fitting_encoder(spec_of(PICTURE, CLOUD))
    with pytest.raises(
        ArtifactError, match=r"needs observations of floats of the shape \(points, 3\) or \(points, 6\)"
    ):
        build_encoder(PointEncoderConfig(), spec_of(POSE))
    with pytest.raises(ArtifactError, match="takes no pictures"):
        build_encoder(PointEncoderConfig(), spec_of(CLOUD, PICTURE))
