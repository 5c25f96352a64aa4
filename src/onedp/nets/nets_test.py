"""Networks: shapes, names that foreign checkpoints use, sensitivity to every input."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import ArtifactError, OneDPError
from onedp.nets.attention import Attention
from onedp.nets.build import build_backbone, build_denoiser, network_from_json, network_to_json
from onedp.nets.config import NETWORK_SIZES, ActConfig, DitConfig, MlpConfig, NetworkConfig, NetworkName, UnetConfig
from onedp.nets.dit import Dit
from onedp.nets.state_encoder import StateEncoder
from onedp.tasks import PUSHT_KEYPOINTS, PUSHT_STATE
from onedp.types import PolicySpec

SPEC = PUSHT_KEYPOINTS.spec
SMALL: list[NetworkConfig] = [
    UnetConfig(channels=(8, 16, 32), step_embed_dim=16),
    MlpConfig(width=32, blocks=2),
    DitConfig(width=32, blocks=2, heads=4),
]


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
    assert millions["mlp"] == pytest.approx(6.7, abs=0.1)
    assert millions["dit-small"] == pytest.approx(1.3, abs=0.1)
    assert millions["dit"] == pytest.approx(7.3, abs=0.1)


def test_the_command_line_offers_every_named_network():
    assert get_args(NetworkName) == tuple(NETWORK_SIZES)


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


def test_a_fresh_transformer_gives_zero_and_learns_first_through_its_gates():
    """adaLN-Zero: with gates at zero nothing flows through the blocks, but gradients reach the gates and the head."""
    torch.manual_seed(0)
    network = build_backbone(SMALL[2], SPEC, cond_dim=36)
    assert isinstance(network, Dit)
    chunk, t, cond = torch.randn(3, 16, 2), torch.tensor([1.0, 5.0, 90.0]), torch.randn(3, 36)
    out = network(chunk, t, cond)
    assert not out.any()
    (out - torch.randn_like(out)).square().mean().backward()
    assert network.head.weight.grad is not None
    assert network.head.weight.grad.abs().max() > 0
    torch.nn.init.normal_(network.head.weight)
    network(chunk, t, cond).square().mean().backward()
    assert network.modulation.weight.grad is not None
    gates = network.modulation.weight.grad.view(-1, 32, 32)[[2, 5, 8, 11]]
    assert (gates.abs().amax(dim=(1, 2)) > 0).all()


def test_attention_is_pytorchs():
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        ours.query.weight.copy_(theirs.in_proj_weight[:12])
        ours.key_value.weight.copy_(theirs.in_proj_weight[12:])
        ours.out.load_state_dict(theirs.out_proj.state_dict())
        ours.query.bias.zero_()
        ours.key_value.bias.zero_()
    queries, memory = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    torch.testing.assert_close(ours(queries, memory), theirs(queries, memory, memory)[0])
    with pytest.raises(OneDPError, match="width 10 of an attention layer must be divisible by its 4 heads"):
        Attention(10, 4)


def test_the_transformer_knows_where_a_step_is():
    """Without positions, reversing the chunk would only reverse the answer."""
    torch.manual_seed(0)
    network = build_backbone(SMALL[2], SPEC, cond_dim=36)
    assert isinstance(network, Dit)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    chunk, t, cond = torch.randn(1, 16, 2), torch.tensor([5.0]), torch.randn(1, 36)
    assert not torch.allclose(network(chunk.flip(1), t, cond).flip(1), network(chunk, t, cond), atol=1e-3)
    network.positions.zero_()
    torch.testing.assert_close(network(chunk.flip(1), t, cond).flip(1), network(chunk, t, cond), atol=1e-5, rtol=1e-4)


def test_impossible_transformers_are_refused():
    with pytest.raises(OneDPError, match=r"The width \(30\) of attention must be divisible by the heads \(4\)"):
        DitConfig(width=30)
    with pytest.raises(OneDPError, match="step embedding of at least 4"):
        DitConfig(step_embed_dim=2)
    with pytest.raises(OneDPError, match="Every size of ACT's network must be at least 1"):
        ActConfig(latent_dim=0)
