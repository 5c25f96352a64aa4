"""Messages that a server must survive. For its tests and ``benchmarks/serve_load.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np

from onedp.serve.wire import pack
from onedp.types import PolicySpec


def fuzzed_messages(spec: PolicySpec, count: int, seed: int) -> Iterator[bytes]:
    """``count`` messages: noise, damaged requests, and well-formed ones with values that do not belong there.

    For a policy that goes on from chunks; others refuse every second of the well-formed ones.
    """
    rng = np.random.default_rng(seed)
    kinds: tuple[Callable[[PolicySpec, np.random.Generator], bytes], ...] = (
        _random_bytes,
        _damaged,
        _truncated,
        _wrong_value,
        _wrong_array,
        _nested,
    )
    for _ in range(count):
        yield kinds[rng.integers(len(kinds))](spec, rng)


def _request(spec: PolicySpec, rng: np.random.Generator) -> dict:
    """An observation, in every second one the chunk before."""
    request = {name: value[0] for name, value in spec.fake_observation(batch=1, rng=rng).items()}
    if rng.random() < 0.5:
        request["previous_actions"] = rng.random((spec.chunk_length, spec.action_dim), dtype=np.float32)
        request["previous_weights"] = rng.random(spec.chunk_length, dtype=np.float32)
    return request


def _random_bytes(spec: PolicySpec, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, 400)))


def _damaged(spec: PolicySpec, rng: np.random.Generator) -> bytes:
    data = bytearray(pack(_request(spec, rng)))
    for place in rng.integers(len(data), size=rng.integers(1, 8)):
        data[place] = rng.integers(256)
    return bytes(data)


def _truncated(spec: PolicySpec, rng: np.random.Generator) -> bytes:
    data = pack(_request(spec, rng))
    return data[: rng.integers(len(data))]


def _wrong_value(spec: PolicySpec, rng: np.random.Generator) -> bytes:
    values: list[Any] = [
        None,
        True,
        -1,
        2**63,
        1e308,
        float("nan"),
        "x" * 1000,
        b"\0" * 100,
        [],
        {},
        [[1.0]],
        {"a": {"b": []}},
    ]
    request = _request(spec, rng)
    keys = [*request, "policy", "seed", "chunk", "noise", "previous_weights", "", "\0", "__class__", "x" * 5000]
    for place in rng.integers(len(keys), size=rng.integers(1, 4)):
        request[keys[place]] = values[rng.integers(len(values))]
    return pack(request)


def _wrong_array(spec: PolicySpec, rng: np.random.Generator) -> bytes:
    request = _request(spec, rng)
    name = [*request][rng.integers(len(request))]
    entries = {
        b"__ndarray__": True,
        b"data": rng.bytes(int(rng.integers(0, 200))),
        b"dtype": ["<f4", "<f8", "|O", "|V8", "<c16", "<U4", "|b1", "<M8[s]", "", "f4,f4", None, 7][rng.integers(12)],
        b"shape": [int(n) for n in rng.integers(-2, 5, size=rng.integers(0, 10))],
    }
    arrays = {key: pack(value) for key, value in request.items()} | {name: msgpack.packb(entries)}
    body = b"".join(msgpack.packb(key) + value for key, value in arrays.items())
    return bytes([0x80 | len(arrays)]) + body


def _nested(spec: PolicySpec, rng: np.random.Generator) -> bytes:
    depth = int(rng.integers(1, 3000))
    return [b"\x91", b"\x81\xa1x", b"\xdc\xff\xff", b"\xdf\x0f\xff\xff\xff"][rng.integers(4)] * depth
