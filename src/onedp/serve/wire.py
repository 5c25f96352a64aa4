"""msgpack with numpy arrays as openpi writes them, read without trusting the sender.

An array is the map ``{b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [..]}``, a numpy scalar
``{b"__npgeneric__": True, b"data": value, b"dtype": ..}`` (openpi_client/msgpack_numpy.py). Nothing is unpickled, and
a short message cannot unfold into much memory.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np

from onedp.errors import ServeError

DTYPES = frozenset(
    {"|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"}
)  # numbers and truth values, little-endian: what numpy writes on every machine a robot has
MAX_CONTAINERS = 1024
"""Maps and lists in one message. A byte of msgpack can be an empty map, which is 64 bytes in Python."""
MAX_ITEMS = 1024
"""Entries of one map or list."""
MAX_DIMENSIONS = 8


def pack(message: Any) -> bytes:
    """``message`` (plain data and numpy arrays of the types in ``DTYPES``) as openpi's msgpack."""
    return msgpack.packb(message, default=_encode)


def unpack(data: bytes) -> Any:
    """Invert ``pack`` on bytes from anyone; raises ``ServeError`` saying what is wrong with them."""
    containers = 0

    def count(container: Any) -> Any:
        nonlocal containers
        containers += 1
        if containers > MAX_CONTAINERS:
            raise ValueError(f"more than {MAX_CONTAINERS} maps and lists")
        return container

    try:
        return msgpack.unpackb(
            data,
            object_hook=lambda entries: _decode(count(entries)),
            list_hook=count,
            strict_map_key=True,
            max_str_len=2**16,
            max_bin_len=len(data),
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise ServeError(f"The message is not readable as msgpack: {error or type(error).__name__}.") from error


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        little = value.astype(value.dtype.newbyteorder("<"))
        if little.dtype.str not in DTYPES:
            raise ServeError(f"An array of dtype {value.dtype} cannot be sent; expected numbers or truth values.")
        if isinstance(little, np.ndarray):
            return {
                b"__ndarray__": True,
                b"data": little.tobytes(),
                b"dtype": little.dtype.str,
                b"shape": list(little.shape),
            }
        return {b"__npgeneric__": True, b"data": little.item(), b"dtype": little.dtype.str}
    raise ServeError(f"A {type(value).__name__} cannot be sent; expected plain data and numpy arrays.")


def _decode(entries: dict[Any, Any]) -> Any:
    if b"__ndarray__" in entries:
        return _decode_array(entries)
    if b"__npgeneric__" in entries:
        value = entries.get(b"data")
        if not isinstance(value, bool | int | float):
            raise ValueError(f"a numpy scalar holds a {type(value).__name__}, expected a number")
        return value
    return entries


def _decode_array(entries: dict[Any, Any]) -> np.ndarray:
    data, dtype, shape = (entries.get(key) for key in (b"data", b"dtype", b"shape"))
    if dtype not in DTYPES:
        raise ValueError(f"an array of dtype {str(dtype)[:32]!r}, expected one of {', '.join(sorted(DTYPES))}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n > 0 for n in shape):
        raise ValueError(f"an array of shape {str(shape)[:64]}, expected up to {MAX_DIMENSIONS} positive sizes")
    if not isinstance(data, bytes):
        raise ValueError(f"the data of an array is a {type(data).__name__}, expected bytes")
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if len(data) != size:
        raise ValueError(f"an array of shape {tuple(shape)} and dtype {dtype} has {len(data)} bytes, expected {size}")
    if dtype == "|b1":  # a byte other than 0 and 1 is no truth value to numpy
        return np.frombuffer(data, dtype=np.uint8).reshape(shape) != 0
    return np.frombuffer(data, dtype=dtype).reshape(shape)
