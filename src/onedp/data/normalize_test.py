from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onedp.data.config import NormalizationMode
from onedp.data.normalize import FieldStats, Normalizer, fit_normalizer
from onedp.errors import ArtifactError, DataError
from onedp.types import FieldSpec, PolicySpec

SPEC = PolicySpec(
    observations=(FieldSpec("pos", (3,), "m"), FieldSpec("grid", (2, 2), "1")),
    action=FieldSpec("action", (2,), "m"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    rate_hz=10.0,
)

values = hnp.arrays(np.float32, (20, 3), elements=st.floats(-1e4, 1e4, width=32))
constant_columns = st.lists(st.booleans(), min_size=3, max_size=3)
MODES: list[NormalizationMode] = ["min_max", "mean_std", "identity"]


def normalizer_of(data: np.ndarray, mode: NormalizationMode) -> Normalizer:
    return Normalizer({"pos": FieldStats.of(data)}, {"pos": mode})


@given(data=values, constant=constant_columns, mode=st.sampled_from(MODES))
def test_unnormalize_inverts_normalize(data: np.ndarray, constant: list[bool], mode: NormalizationMode) -> None:
    data[:, constant] = data[0, constant]
    normalizer = normalizer_of(data, mode)
    back = normalizer.unnormalize("pos", normalizer.normalize("pos", data))
    assert back.dtype == np.float32
    # float32 resolution of the normalised number, in physical units
    width = np.maximum(data.max(axis=0) - data.min(axis=0), 1e-6)
    assert (np.abs(back - data) <= 4e-6 * width + 2e-7 * np.abs(data)).all()


@given(data=values, constant=constant_columns)
def test_min_max_puts_training_data_on_the_whole_range(data: np.ndarray, constant: list[bool]) -> None:
    data[:, constant] = data[0, constant]
    normalizer = normalizer_of(data, "min_max")
    normalized = normalizer.normalize("pos", data)
    assert np.abs(normalized).max() <= 1.0
    still = normalizer.constant_dimensions("pos")
    assert set(np.flatnonzero(constant)) <= set(still)
    for index in range(3):
        if index in still:
            assert np.abs(normalized[:, index]).max() <= 1e-6
        else:
            assert normalized[:, index].min() == pytest.approx(-1, abs=1e-6)
            assert normalized[:, index].max() == pytest.approx(1, abs=1e-6)


def test_mean_std() -> None:
    data = np.random.default_rng(0).normal(5.0, 3.0, size=(1000, 3)).astype(np.float32)
    normalized = normalizer_of(data, "mean_std").normalize("pos", data)
    np.testing.assert_allclose(normalized.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(normalized.std(axis=0), 1.0, atol=1e-5)


def test_small_range_beside_a_large_centre() -> None:
    data = np.linspace(1000.0, 1000.1, 20, dtype=np.float32)[:, None].repeat(3, axis=1)
    normalizer = normalizer_of(data, "min_max")
    np.testing.assert_array_equal(normalizer.unnormalize("pos", normalizer.normalize("pos", data)), data)


@pytest.mark.parametrize("mode", MODES)
def test_scale_and_offset_are_the_same_map(mode: NormalizationMode) -> None:
    data = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    data[:, 1] = 4.0
    normalizer = normalizer_of(data, mode)
    scale, offset = normalizer.scale_offset("pos")
    assert (scale.dtype, offset.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(data * scale + offset, normalizer.normalize("pos", data), atol=1e-6)


def test_large_data_gives_the_statistics_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).normal(size=(100, 2, 2))
    monkeypatch.setattr("onedp.data.normalize.BLOCK_STEPS", 7)
    stats = FieldStats.of(data)
    for part in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(getattr(stats, part), getattr(data, part)(axis=0), rtol=1e-6)


def fitted() -> tuple[dict[str, np.ndarray], Normalizer]:
    rng = np.random.default_rng(0)
    arrays = {
        field.name: rng.normal(size=(30, *field.shape)).astype(np.float32)
        for field in (*SPEC.observations, SPEC.action)
    }
    arrays["grid"][:, 1, 0] = 2.0
    return arrays, fit_normalizer(arrays, SPEC)


def test_fit_covers_the_spec_and_lists_constant_dimensions() -> None:
    _, normalizer = fitted()
    assert set(normalizer.stats) == {"pos", "grid", "action"}
    assert normalizer.constant_dimensions("grid") == [2]
    assert normalizer.constant_dimensions("pos") == []


@pytest.mark.parametrize("mode", ["min_max", "mean_std"])
def test_quaternions_keep_their_values(mode: NormalizationMode) -> None:
    pose = FieldSpec("pose", (8,), "m and quaternions", quaternions=(3,))
    spec = replace(SPEC, observations=(pose,))
    rng = np.random.default_rng(0)
    poses = rng.uniform(-0.3, 0.5, (30, 8)).astype(np.float32)
    normalizer = fit_normalizer({"pose": poses, "action": rng.normal(size=(30, 2))}, spec, mode)
    scaled = normalizer.normalize("pose", poses)
    np.testing.assert_array_equal(scaled[:, 3:7], poses[:, 3:7])
    assert np.abs(scaled[:, [0, 1, 2, 7]]).max() >= 1 - 1e-6


def test_json_round_trip_is_exact() -> None:
    arrays, normalizer = fitted()
    again = Normalizer.from_json(json.loads(json.dumps(normalizer.to_json())), SPEC)
    assert again.modes == normalizer.modes
    for name in arrays:
        np.testing.assert_array_equal(again.normalize(name, arrays[name]), normalizer.normalize(name, arrays[name]))


def without(key: str, field: str | None = None) -> Any:
    data = fitted()[1].to_json()
    del (data if field is None else data[field])[key]
    return data


def with_(field: str, **change: Any) -> Any:
    data = fitted()[1].to_json()
    data[field] = {**data[field], **change}
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (without("pos"), "norm_stats.json has no statistics for ['pos']; it has ['action', 'grid']. Without them the"),
        (
            {**fitted()[1].to_json(), "gird": {}},
            "norm_stats.json has statistics for ['gird'], which the policy does not",
        ),
        (without("max", "pos"), "'pos' has no 'max'. Restore the file or train again"),
        (with_("pos", mode="minmax"), "'pos' has the mode 'minmax', expected one of min_max, mean_std, identity"),
        (with_("pos", min=[0.0, 0.0]), "'min' of 'pos' has shape (2,), expected (3,)"),
        (with_("pos", min=[0.0, None, 0.0]), "'min' of 'pos' holds NaN or infinity"),
        (with_("pos", min=["a", 0, 0]), "'min' of 'pos' is not a list of numbers"),
        (with_("pos", min=[9e9, 0, 0]), "'pos' has a minimum above its maximum or a negative deviation"),
        (with_("pos", std=[-1, 0, 0]), "'pos' has a minimum above its maximum or a negative deviation"),
        ({**fitted()[1].to_json(), "pos": 3}, "'pos' is not an object. Restore the file"),
    ],
)
def test_statistics_that_do_not_fit_the_spec_are_refused(data: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=re.escape(message)):
        Normalizer.from_json(data, SPEC)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos": np.zeros((30, 2))}, "No statistics for 'pos': it has the shape (30, 2); expected (steps, 3)"),
        ({"pos": np.zeros((0, 3))}, "No statistics for 'pos': it has the shape (0, 3)"),
        ({"pos": np.full((30, 3), np.nan)}, "No statistics for 'pos': it has NaN or infinity. Look for the place with"),
        ({"pos": None}, "No statistics for 'pos': it is missing"),
    ],
)
def test_data_without_statistics_is_refused(change: dict[str, Any], message: str) -> None:
    arrays = {name: data for name, data in {**fitted()[0], **change}.items() if data is not None}
    with pytest.raises(DataError, match=re.escape(message)):
        fit_normalizer(arrays, SPEC)
