from __future__ import annotations

import pytest

from onedp.errors import ArtifactError, DataError, OneDPError, SpecError, TrainingError, did_you_mean, unknown_choice


def test_unknown_choice_names_the_nearest_and_all_valid_names() -> None:
    assert unknown_choice("sampler", "dim", ["ddpm", "ddim", "heun"]) == (
        "Unknown sampler 'dim'. Did you mean 'ddim'? Valid: ddim, ddpm, heun."
    )


def test_unknown_choice_without_anything_near() -> None:
    assert unknown_choice("task", "zzz", ["pusht"]) == "Unknown task 'zzz'. Valid: pusht."
    assert unknown_choice("policy", "zzz", []) == "Unknown policy 'zzz'. Valid: none."


def test_did_you_mean() -> None:
    assert did_you_mean("stat", ["state", "action"]) == " Did you mean 'state'?"
    assert did_you_mean("stat", ["action"]) == ""


@pytest.mark.parametrize("kind", [ArtifactError, DataError, SpecError, TrainingError])
def test_every_error_is_of_the_family(kind: type[OneDPError]) -> None:
    assert issubclass(kind, OneDPError)
