"""Networks: shapes, names that foreign checkpoints use, sensitivity to every input."""

from __future__ import annotations

import pytest
import torch

from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import ArtifactError, OneDPError
from onedp.nets.build import build_backbone, build_denoiser, network_from_json, network_to_json
from onedp.nets.config import NETWORK_SIZES, MlpConfig, NetworkConfig, UnetConfig
from onedp.nets.state_encoder import StateEncoder
from onedp.tasks import PUSHT_KEYPOINTS, PUSHT_STATE
from onedp.types import PolicySpec

SPEC = PUSHT_KEYPOINTS.spec
SMALL: list[NetworkConfig] = [UnetConfig(channels=(8, 16, 32), step_embed_dim=16), MlpConfig(width=32, blocks=2)]


@pytest.mark.parametrize("config", SMALL)
def test_output_has_the_chunks_shape_and_depends_on_every_input(config):
    torch.manual_seed(0)
    network = build_backbone(config, SPEC, cond_dim=36)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        chunk, t, cond = torch.randn(3, 16, 2), torch.tensor([1.0, 5.0, 90.0]), torch.randn(3, 36)
        out = network(chunk, t, cond)
        assert out.shape == (3, 16, 2)
        for changed in ((chunk + 1, t, cond), (chunk, t + 1, cond), (chunk, t, cond + 1)):
            assert not torch.allclose(network(*changed), out)


def test_unet_names_are_those_of_lerobot():
    names = set(build_backbone(SMALL[0], SPEC, 36).state_dict())
    expected = {
        "diffusion_step_encoder.1.weight",
        "diffusion_step_encoder.3.bias",
        "down_modules.0.0.conv1.block.0.weight",
        "down_modules.0.0.conv1.block.1.weight",
        "down_modules.0.0.cond_encoder.1.weight",
        "down_modules.0.0.residual_conv.weight",
        "down_modules.0.2.weight",
        "mid_modules.1.conv2.block.0.bias",
        "up_modules.0.1.conv1.block.0.weight",
        "up_modules.1.2.weight",
        "final_conv.0.block.0.weight",
        "final_conv.1.weight",
    }
    assert expected <= names
    assert "down_modules.2.2.weight" not in names  # the last level does not halve


def test_sizes_are_the_documented_ones():
    millions = {
        name: sum(p.numel() for p in build_backbone(config, SPEC, 36).parameters()) / 1e6
        for name, config in NETWORK_SIZES.items()
        if name != "unet-large"
    }
    assert millions["unet-small"] == pytest.approx(1.4, abs=0.1)
    assert millions["unet"] == pytest.approx(4.5, abs=0.1)
    assert millions["unet-medium"] == pytest.approx(17, abs=1)


def test_encoder_concatenates_fields_within_each_step():
    encoder = StateEncoder(PUSHT_STATE.spec)
    nobs = {field.name: torch.full((1, 2, 2), float(i)) for i, field in enumerate(PUSHT_STATE.spec.observations)}
    nobs["agent_pos"][:, 1] = 9.0  # the newest step
    assert encoder(nobs).tolist() == [[0, 0, 1, 1, 2, 2, 9, 9, 1, 1, 2, 2]]
    assert encoder.output_dim == 12


@pytest.mark.parametrize("config", SMALL)
def test_json_round_trip(config):
    assert network_from_json(network_to_json(config)) == config


def test_bad_networks_are_explained():
    odd = PolicySpec(**{**vars(SPEC), "horizon": 14, "n_action_steps": 8})
    with pytest.raises(OneDPError, match="must be divisible by 4; it is 14"):
        build_denoiser(UnetConfig(), odd, CosineDdpm(), "eps")
    with pytest.raises(ArtifactError, match="Unknown network 'unett'"):
        network_from_json({"kind": "unett"})
    with pytest.raises(ArtifactError, match=r"The network has the unknown entries \['depth'\]"):
        network_from_json({"kind": "mlp", "depth": 3})
