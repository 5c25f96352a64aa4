"""Latency models: what is charged, and that it can be replayed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from onedp.errors import OneDPError
from onedp.runtime.latency import FixedLatency, HistogramLatency, LatencyModel, charged_ticks, parse_latency


def never() -> list[float]:
    pytest.fail("nothing needed to be measured")


@pytest.mark.parametrize(
    ("seconds", "rate_hz", "ticks"),
    [
        (0.0, 50.0, 0),
        (0.001, 50.0, 1),
        (0.02, 50.0, 1),
        (0.0201, 50.0, 2),
        (0.06, 50.0, 3),  # 0.06 * 50 is 3, and a rounding error
        (0.669, 20.0, 14),
        (0.075, 20.0, 2),
        (0.016, 20.0, 1),
    ],
)
def test_latency_is_rounded_up_to_ticks(seconds, rate_hz, ticks):
    assert charged_ticks(seconds, rate_hz) == ticks


@pytest.mark.parametrize(("nfe", "seconds"), [(100, 0.669), (10, 0.075), (1, 0.016), (19, 0.1344)])
def test_the_papers_latencies(nfe, seconds):
    latency = parse_latency("paper", nfe, never)
    assert latency.seconds(seed=3, chunk=1) == seconds
    assert latency.label == f"paper {seconds:g} s"


def test_seconds_and_measured_ones():
    assert parse_latency("0.25", 1, never) == FixedLatency(0.25)
    measured = parse_latency("measured", 1, lambda: [0.01] * 9 + [0.09])
    assert measured.label == "measured (p50 0.01 s)"
    assert isinstance(measured, LatencyModel)


def test_a_histogram_gives_back_what_it_was_made_of():
    samples = np.random.default_rng(0).gamma(3.0, 0.01, 2000)
    histogram = HistogramLatency.of(samples.tolist())
    assert sum(histogram.counts) == 2000
    for q in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert histogram.quantile(q) == pytest.approx(np.quantile(samples, q), rel=0.02)
    drawn = [histogram.seconds(seed=1, chunk=chunk) for chunk in range(2000)]
    assert np.quantile(drawn, 0.5) == pytest.approx(np.quantile(samples, 0.5), rel=0.05)
    assert np.quantile(drawn, 0.95) == pytest.approx(np.quantile(samples, 0.95), rel=0.05)


def test_draws_belong_to_seed_and_chunk():
    histogram = HistogramLatency.of([0.01, 0.02, 0.05])
    assert histogram.seconds(7, 3) == histogram.seconds(7, 3)
    assert len({histogram.seconds(seed, chunk) for seed in range(5) for chunk in range(5)}) == 25


def test_recorded_latencies_are_read(tmp_path):
    path = tmp_path / "arm.json"
    path.write_text(json.dumps({"format": "onedp.latency-histogram/1", "latencies_s": [0.01, 0.03]}))
    assert parse_latency(str(path), 1, never).label == "arm (p50 0.02 s)"
    histogram = {"format": "onedp.latency-histogram/1", "edges_s": [0.0, 0.1, 0.4], "counts": [1, 3]}
    path.write_text(json.dumps(histogram))
    assert HistogramLatency.read(path).quantile(0.25) == pytest.approx(0.1)
    assert HistogramLatency.read(path).to_json()["counts"] == [1, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "holds no latencies"),
        ('{"format": "x"}', "has the format 'x'; expected JSON with format 'onedp.latency-histogram/1'"),
        ('{"format": "onedp.latency-histogram/1", "latencies_s": []}', "There is no recorded latency"),
        ('{"format": "onedp.latency-histogram/1", "latencies_s": [0.1, -0.2]}', "recorded latency is -0.2 s; all must"),
        ('{"format": "onedp.latency-histogram/1", "latencies_s": [0.1, NaN]}', "recorded latency is nan s"),
        (
            '{"format": "onedp.latency-histogram/1", "latencies_s": [0.1, 75]}',
            "recorded latency is 75 s; all .* 0 to 60",
        ),
        ('{"format": "onedp.latency-histogram/1", "edges_s": [0, 1], "counts": [0]}', "needs n counts"),
        ('{"format": "onedp.latency-histogram/1", "edges_s": [1, 0], "counts": [3]}', "ascending edges"),
        ('{"format": "onedp.latency-histogram/1", "edges_s": [0, 75], "counts": [3]}', "from 0 to 60"),
        ('{"format": "onedp.latency-histogram/1", "edges_s": [0, 1], "counts": [Infinity]}', "holds no latencies"),
        ('{"format": "onedp.latency-histogram/1", "counts": [3]}', "holds no latencies"),
    ],
)
def test_wrong_files_are_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(OneDPError, match=message):
        HistogramLatency.read(tmp_path / "x.json")


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "75"])
def test_impossible_seconds_are_refused(text):
    with pytest.raises(OneDPError, match=r"number of seconds from 0 to 60; .* are written as 0.075"):
        parse_latency(text, 1, never)


def test_unknown_latencies_are_refused():
    with pytest.raises(
        OneDPError, match=r"'fast' is not known\. Valid: seconds \(0\.669\), measured, paper, or a file"
    ):
        parse_latency("fast", 1, never)
