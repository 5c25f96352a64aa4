"""What the command line may name, and what it says of the rest."""

from __future__ import annotations

import pytest

from onedp.bench.contestants import Contestant, parse_contestants
from onedp.errors import OneDPError
from onedp.nets.config import NETWORK_SIZES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ddim:10", ("ddpm", None, "", "ddim:10")),
        ("heun:18", ("edm", None, "", "heun:18")),
        ("edm/one-step", ("edm", None, "", "one-step")),
        ("euler:10", ("flow", None, "", "euler:10")),
        ("flow/onedp", ("flow", "onedp", "small", None)),
        ("one-step:40:0.5", ("ddpm", None, "", "one-step:40:0.5")),
        ("onedp-s", ("ddpm", "onedp-s", "small", None)),
        ("edm/onedp-s:paper", ("edm", "onedp-s", "paper", None)),
        ("onedp-s@one-step:65:0.5", ("ddpm", "onedp-s", "small", "one-step:65:0.5")),
    ],
)
def test_a_method_or_a_sampler_of_the_teacher(text, expected):
    contestant = Contestant.parse(text)
    assert (contestant.process, contestant.method, contestant.preset, contestant.sampler) == expected
    assert contestant.text == text
    assert contestant.network is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("onedp-s+mlp", ("onedp-s", "small", None, "mlp")),
        ("edm/onedp-s:paper+unet-small@one-step", ("onedp-s", "paper", "one-step", "unet-small")),
        ("act+act", ("act", "small", None, "act")),
    ],
)
def test_a_method_may_have_a_network_of_its_own(text, expected):
    contestant = Contestant.parse(text)
    *others, network = expected
    assert [contestant.method, contestant.preset, contestant.sampler] == others
    assert contestant.network == NETWORK_SIZES[network]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onedp-x", r"onedp-x.*onedp-s.*ddim"),
        ("vp/onedp-s", r"'vp'.*ddpm, edm, flow.*in 'vp/onedp-s'"),
        ("onedp-s:large", r"preset of onedp-s.*large.*small"),
        ("onedp-s+big", r"network of onedp-s 'big'.*unet-small"),
        ("onedp-s+", r"network of onedp-s ''.*unet-small"),
        ("onedp-s+act", r"'act' is no denoiser; onedp-s cannot train it"),
        ("ddim:10+mlp", r"Write a method .* or a sampler of the teacher"),
        ("ddim:10@ddim:4", r"Write a method .* or a sampler of the teacher"),
    ],
)
def test_mistakes_are_named_with_what_is_valid(text, message):
    with pytest.raises(OneDPError, match=message):
        Contestant.parse(text)


def test_lists_may_have_commas_or_be_several_words():
    assert [c.text for c in parse_contestants(["ddim:10, onedp-s", "onedp-d"])] == ["ddim:10", "onedp-s", "onedp-d"]
    with pytest.raises(OneDPError, match="ddim:10 is named twice"):
        parse_contestants(["ddim:10", "ddim:10"])
    with pytest.raises(OneDPError, match="There is nothing to compare"):
        parse_contestants([])


def test_only_methods_without_a_teacher_need_none():
    needs = {name: Contestant.parse(name).needs_teacher for name in ("ddim:10", "onedp-s", "denoising")}
    assert needs == {"ddim:10": True, "onedp-s": True, "denoising": False}
