from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedp.errors import SpecError
from onedp.observations import check_observation
from onedp.timing_table import timing_table
from onedp.types import FieldSpec, PolicySpec, episode_noise

SPEC = PolicySpec(
    observations=(FieldSpec("keypoints", (16,), "px"), FieldSpec("image", (4, 4, 3), "1")),
    action=FieldSpec("action", (2,), "px"),
    action_low=(0.0, 0.0),
    action_high=(512.0, 512.0),
    rate_hz=10.0,
)


def changed(**values: Any) -> PolicySpec:
    return dataclasses.replace(SPEC, **values)


def test_derived_sizes() -> None:
    assert SPEC.action_dim == 2
    assert SPEC.chunk_length == 15
    assert SPEC.observations[1].size == 48


@given(
    n_obs=st.integers(1, 4),
    n_action=st.integers(1, 8),
    spare=st.integers(0, 8),
    rate=st.floats(0.1, 1e3),
    dim=st.integers(1, 5),
)
def test_json_round_trip(n_obs: int, n_action: int, spare: int, rate: float, dim: int) -> None:
    spec = PolicySpec(
        observations=(FieldSpec("a", (3, 2), "m"), FieldSpec("b", (), "1", "uint8")),
        action=FieldSpec("action", (dim,), "rad"),
        action_low=(-1.0,) * dim,
        action_high=(0.1,) * dim,
        rate_hz=rate,
        horizon=n_obs + n_action + spare - 1,
        n_obs_steps=n_obs,
        n_action_steps=n_action,
    )
    assert PolicySpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, r"The policy spec has the unknown entries \['surprise'\]"),
        ({"action": "x"}, "The policy spec: 'action' is \"x\", expected an object"),
        ({"action_low": ["low", 0]}, r"The policy spec: 'action_low' is .*, expected a list of numbers"),
    ],
)
def test_unreadable_json(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        PolicySpec.from_json({**SPEC.to_json(), **change})
    with pytest.raises(SpecError, match="The policy spec has no entry 'action'"):
        PolicySpec.from_json({key: value for key, value in SPEC.to_json().items() if key != "action"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_obs_steps": 0}, r"n_obs_steps \(0\) and n_action_steps \(8\) must be at least 1"),
        (
            {"n_action_steps": 16},
            r"n_action_steps \(16\) must be at most horizon - n_obs_steps \+ 1 = 16 - 2 \+ 1 = 15",
        ),
        ({"action_low": (0.0,)}, "action limits have 1 and 2 entries, the action has 2"),
        ({"action_low": (0.0, 600.0)}, r"action limits \(0.0, 600.0\) must lie below \(512.0, 512.0\)"),
        ({"rate_hz": 0.0}, "rate_hz is 0.0, expected a control rate above 0"),
        ({"observations": ()}, "must be at least one observation and one action"),
        ({"observations": (FieldSpec("action", (2,), "px"),)}, "with names of their own"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        changed(**change)


def test_timing_table() -> None:
    spec = changed(horizon=6, n_action_steps=3)
    assert spec.executed_steps == range(1, 4)
    table = timing_table(spec)
    assert [line.rstrip() for line in table.splitlines()] == [
        "step        -1   0   1   2   3   4",
        "observed     o   o",
        "predicted    p   p   p   p   p   p",
        "executed         x   x   x",
    ]


def test_check_observation_returns_the_batch_size() -> None:
    assert check_observation(SPEC, SPEC.fake_observation(3, np.random.default_rng(0))) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"extra": np.zeros((3, 2, 1))},
            r"fields \['extra', 'image', 'keypoints'\], expected \['image', 'keypoints'\] .*unknown \['extra'\]",
        ),
        (
            {"keypoints": np.zeros((3, 2, 15))},
            r"'keypoints' has shape \(3, 2, 15\), expected \(B, 2, 16\): batch, 2 observation steps, then the field",
        ),
        ({"keypoints": np.zeros((2, 16))}, r"'keypoints' has shape \(2, 16\).*Add the batch axis: value\[None\]"),
        ({"keypoints": np.array(1.0)}, r"'keypoints' has shape \(\), expected \(B, 2, 16\)"),
        ({"keypoints": np.zeros((4, 2, 16))}, "disagree about the batch size: .*'keypoints': 4"),
    ],
)
def test_wrong_observations_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check_observation(SPEC, {**SPEC.fake_observation(3, np.random.default_rng(0)), **change})
    with pytest.raises(SpecError, match=r"missing \['keypoints'\]"):
        check_observation(SPEC, {"image": np.zeros((1, 2, 4, 4, 3))})


@given(seed=st.integers(0, 2**64 - 2), chunk=st.integers(0, 1000))
def test_noise_repeats_for_the_same_key_and_differs_for_any_other(seed: int, chunk: int) -> None:
    noise = episode_noise(seed, chunk, (2, 4, 2))
    assert noise.shape == (2, 4, 2)
    assert noise.dtype == np.float32
    np.testing.assert_array_equal(noise, episode_noise(seed, chunk, (2, 4, 2)))
    for other in ((seed, chunk + 1), (seed + 1, chunk)):
        assert not np.array_equal(noise, episode_noise(*other, (2, 4, 2)))


def test_noise_is_standard_normal_and_uncorrelated_between_chunks() -> None:
    draws = np.stack([episode_noise(7, chunk, (1, 500, 2)) for chunk in range(20)]).astype(np.float64)
    assert abs(draws.mean()) < 0.03
    assert abs(draws.std() - 1) < 0.03
    correlation = np.corrcoef(draws.reshape(20, -1)) - np.eye(20)
    assert np.abs(correlation).max() < 0.15


def test_noise_of_a_known_key_never_changes() -> None:
    """Every recorded result depends on it."""
    expected = [-0.3304216265678406, -1.3736786842346191, -0.32640182971954346, -0.1311720758676529]
    np.testing.assert_array_equal(episode_noise(100000, 3, (1, 2, 2)).reshape(-1), np.array(expected, dtype=np.float32))


@pytest.mark.parametrize(("seed", "chunk"), [(-1, 0), (0, -1), (2**64, 0)])
def test_noise_outside_the_range_is_refused(seed: int, chunk: int) -> None:
    with pytest.raises(SpecError, match=rf"The noise of seed {seed}, chunk {chunk} does not exist; both must be 0 to"):
        episode_noise(seed, chunk, (1, 2, 2))


def test_types_bring_no_torch() -> None:
    code = (
        "import sys, onedp.types, onedp.tasks, onedp.data.readers, onedp.cli.inspect; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- values of a field


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "uint8", "bool"])
def test_numbers_become_floats(dtype: str) -> None:
    value = FieldSpec("x", (2,), "m").convert(np.ones((3, 2), dtype=dtype))
    assert (value.dtype, value.shape, value.sum()) == (np.float32, (3, 2), 6)
    assert FieldSpec("x", (), "m").convert(np.array(1.0)).shape == ()


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("uint8", np.zeros(2), "Observation 'x' has dtype float64, expected uint8"),
        ("uint8", np.zeros(2, dtype=np.int64), "Observation 'x' has dtype int64, expected uint8"),
        ("float32", np.array(["1"]), "Observation 'x' has dtype <U1, expected float32"),
        ("float32", np.array([1j]), "Observation 'x' has dtype complex128, expected float32"),
        ("float32", np.array([np.nan]), "Observation 'x' has NaN or infinity"),
        ("float32", np.array([1e300]), "Observation 'x' has NaN or infinity"),
    ],
)
def test_values_that_a_field_cannot_hold_are_named(dtype: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(SpecError) as error:
        FieldSpec("x", (2,), "m", dtype).convert(value)
    assert message in str(error.value)


def test_fake_values_have_the_fields_dtype_and_fill_a_byte() -> None:
    rng = np.random.default_rng(0)
    picture = FieldSpec("image", (), "1", "uint8").fake((64, 64), rng)
    assert (picture.dtype, picture.min(), picture.max()) == (np.uint8, 0, 255)
    assert FieldSpec("x", (), "m").fake((2, 3), rng).dtype == np.float32


def test_an_index_has_a_range() -> None:
    field = FieldSpec("task", (1,), "1", "int64", classes=3)
    rng = np.random.default_rng(0)
    assert set(field.fake((50, 1), rng).reshape(-1)) == {0, 1, 2}
    assert field.nearest(np.array([-4.0, 0.6, 9.0])).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(field.convert(np.array([0, 2])), [0, 2])
    for bad in (3, -1):
        with pytest.raises(SpecError, match=r"'task' has indices from -?\d to \d, expected 0 to 2"):
            field.convert(np.array([1, bad]))
    with pytest.raises(SpecError, match=r"has 3 classes and the dtype float32; an index has at least one class and"):
        FieldSpec("task", (1,), "1", classes=3)


def test_the_nearest_values_a_field_can_hold() -> None:
    assert FieldSpec("p", (1,), "1", "uint8").nearest(np.array([-3.0, 99.6, 300.0])).tolist() == [0, 100, 255]
    assert FieldSpec("p", (1,), "1").nearest(np.array([0.5])).dtype == np.float32


def test_goals_and_indices_survive_json_and_plain_fields_are_as_ever() -> None:
    spec = changed(
        observations=(
            FieldSpec("pos", (2,), "m"),
            FieldSpec("goal", (2,), "m", goal_of="pos"),
            FieldSpec("task", (1,), "1", "int64", classes=4),
        )
    )
    assert PolicySpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert set(spec.to_json()["observations"][0]) == {"name", "shape", "unit", "dtype"}


def test_quaternions_are_places_of_four_numbers_and_make_no_other_field() -> None:
    field = FieldSpec("object", (14,), "m and quaternions", quaternions=(3, 10))
    spec = changed(observations=(field,))
    again = PolicySpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again.observations[0].quaternions == (3, 10)
    assert field == FieldSpec("object", (14,), "m and quaternions")  # a policy of before fits the task of now
    for shape, starts in (((14,), (11,)), ((14,), (3, 6)), ((14,), (-1,)), ((14,), (10, 3)), ((7, 2), (3,))):
        with pytest.raises(SpecError, match="has no room for quaternions at"):
            FieldSpec("object", shape, "m", quaternions=starts)
    with pytest.raises(SpecError, match="dtype float32 and quaternions"):  # a goal is scaled and read as what it is of
        changed(observations=(field, FieldSpec("goal", (14,), "m and quaternions", goal_of="object")))
