"""Latency rows: percentiles, factors and floors from given times; nothing here waits for a clock."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from onedp.cli.main import main
from onedp.errors import OneDPError
from onedp.evaluate.latency import Timed, latency_json, latency_rows, measure
from onedp.evaluate.machine_speed import MachineSpeed
from onedp.report.latency_plot import latency_plot
from onedp.types import FieldSpec, PolicySpec

SPEC = PolicySpec(
    observations=(FieldSpec("where", (3,), "m"),),
    action=FieldSpec("action", (2,), "m"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    rate_hz=10.0,
)


class Counting:
    spec = SPEC
    noise_shape = (1, 16, 2)

    def __init__(self, nfe=1):
        self.nfe = nfe
        self.calls = 0

    def infer(self, obs, noise):
        self.calls += 1
        return np.zeros((1, 15, 2), dtype=np.float32)


def timed(label, runtime, nfe=1, precision="float32"):
    inputs = (SPEC.fake_observation(1, np.random.default_rng(0)), np.zeros((1, 1, 16, 2), dtype=np.float32))
    return Timed(
        Counting(nfe),
        label,
        runtime,
        threads=1,
        parameters=1_000_000,
        flops=2_000_000,
        inputs=inputs,
        precision=precision,
    )


SPEEDS = {1: MachineSpeed(threads=1, bytes_per_s=4e9, flops_per_s=1e9)}


def test_factors_of_distillation_and_runtime_are_told_apart():
    entries = [timed("teacher", "torch", 100), timed("student", "torch"), timed("student", "onnxruntime")]
    teacher, eager, fast = latency_rows(entries, [[1000.0] * 4, [10.0] * 4, [1.0, 2.0, 3.0, 4.0]], SPEEDS)
    assert (teacher.distillation_factor, eager.distillation_factor, fast.distillation_factor) == (1.0, 100.0, 100.0)
    assert (eager.runtime_factor, fast.runtime_factor) == (1.0, 4.0)
    assert (fast.p50_ms, fast.max_ms, fast.hz) == (2.5, 4.0, 400.0)
    assert fast.floor_ms == pytest.approx(1 + 2)  # 4 MB at 4 GB/s and 2 MFLOP at 1 GFLOP/s
    assert teacher.floor_ms == pytest.approx(100 + 2)
    assert fast.floor_ratio == pytest.approx(2.5 / 3)


def test_without_pytorch_there_are_no_factors():
    (row,) = latency_rows([timed("student", "openvino")], [[1.0]], SPEEDS)
    assert row.distillation_factor is None
    assert row.runtime_factor is None


def test_the_floor_of_fewer_bytes_is_lower():
    entries = [timed("student", "openvino", precision=each) for each in ("float32", "bfloat16", "int8")]
    rows = latency_rows(entries, [[5.0]] * 3, SPEEDS)
    assert [row.floor_ms for row in rows] == pytest.approx([1 + 2, 0.5 + 2, 0.25 + 2])
    assert [row.precision for row in rows] == ["float32", "bfloat16", "int8"]


def test_policies_take_turns_after_warming_up():
    entries = [timed("a", "torch"), timed("b", "torch")]
    ticks = itertools.count(0.0, 0.5)
    times = measure(entries, rounds=4, clock=lambda: next(ticks))
    assert times == [[500.0] * 4] * 2
    assert [each.policy.calls for each in entries] == [7, 7]
    with pytest.raises(OneDPError, match="rounds is 0, expected 1 or more"):
        measure(entries, rounds=0)


@pytest.mark.parametrize(("new_frames", "known"), [(None, 0), (2, 0), (1, 1)])
def test_pictures_are_new_at_every_answer(new_frames, known):
    camera = FieldSpec("camera", (4, 4, 3), "1", "uint8")
    spec = replace(SPEC, observations=(camera, *SPEC.observations))
    shown = []

    class Watching(Counting):
        def infer(self, obs, noise):
            shown.append(obs["camera"].copy())
            return super().infer(obs, noise)

    policy = Watching()
    policy.spec = spec
    inputs = (spec.fake_observation(1, np.random.default_rng(7)), np.zeros((1, 1, 16, 2), dtype=np.float32))
    before = inputs[0]["camera"].copy()
    entry = replace(timed("a", "torch"), policy=policy, inputs=inputs, new_frames=new_frames)
    measure([entry, entry], rounds=3)
    frames = {each[0, step].tobytes() for each in shown for step in range(2)}
    assert len(shown) == 12
    assert len(frames) == len(shown) * (2 - known) + known * 1  # the first older frame of both entries is the same
    for earlier, later in zip(shown[::2], shown[2::2], strict=False):
        assert (earlier[0, 1] == later[0, 0]).all() == bool(known)
    np.testing.assert_array_equal(inputs[0]["camera"], before)


def test_the_file_and_the_plot_hold_every_row():
    rows = latency_rows([timed("a@one-step", "torch"), timed("b", "openvino")], [[1.0, 2.0], [3.0]], SPEEDS)
    data = json.loads(json.dumps(latency_json(rows, SPEEDS, {"rounds": 2}), allow_nan=False))
    assert [row["label"] for row in data["rows"]] == ["a@one-step", "b"]
    assert data["machine_speed"][0]["bytes_per_s"] == 4e9
    assert "a@one-step, torch float32, 1 thread(s)" in latency_plot(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-policy"], "Unknown policy 'no-such-policy'"),
        (["p", "--runtimes", "onnxruntme"], "Unknown runtime 'onnxruntme'. Did you mean 'onnxruntime'?"),
        (["p", "--precisions", "int4"], "Unknown precision 'int4'"),
        (["p", "--threads", "0"], "threads is 0, expected a whole number from 1"),
    ],
)
def test_command_line_errors(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["latency", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
