"""Arrays over msgpack: openpi's own packer on the other side, and what must not get in."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest

from onedp.errors import ServeError
from onedp.serve.wire import DTYPES, MAX_CONTAINERS, pack, unpack


def array(**changes):
    entries = {"__ndarray__": True, "data": b"\0" * 8, "dtype": "<f4", "shape": [2], **changes}
    return msgpack.packb({"x": {key.encode(): value for key, value in entries.items()}})


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_arrays_come_back(dtype):
    value = np.arange(6).reshape(2, 3).astype(dtype)
    back = unpack(pack({"x": value}))["x"]
    assert back.dtype == value.dtype
    np.testing.assert_array_equal(back, value)


def test_big_endian_arrays_and_scalars_are_sent_as_numbers():
    back = unpack(pack({"x": np.array([1.5], dtype=">f4"), "y": np.float32(2.5), "z": np.array(3)}))
    assert back["x"].dtype == np.dtype("<f4")
    assert (back["x"][0], back["y"], back["z"][()]) == (1.5, 2.5, 3)


def test_openpi_reads_ours_and_we_read_openpis():
    theirs = pytest.importorskip("openpi_client.msgpack_numpy")
    pos = np.array([[1, 2], [3, 4]], dtype=np.float32)
    message = {"pos": pos, "flag": np.array([True]), "n": np.int64(3), "s": "t"}
    for back in (unpack(theirs.packb(message)), theirs.unpackb(pack(message))):
        np.testing.assert_array_equal(back["pos"], pos)
        assert back["pos"].dtype == np.float32
        assert (back["flag"].tolist(), back["n"], back["s"]) == ([True], 3, "t")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not readable as msgpack"),
        (b"\xc1", "not readable as msgpack"),
        (msgpack.packb({"x": 1})[:-1], "not readable as msgpack"),
        (msgpack.packb(1) * 2, "not readable as msgpack"),
        (msgpack.packb({1: 2}), "int is not allowed for map key"),
        (msgpack.packb(msgpack.ExtType(4, b"abc")), "exceeds max_ext_len"),
        (msgpack.packb(msgpack.ExtType(4, b"a")), "exceeds max_ext_len"),
        (b"\x91" * 2000, "not readable as msgpack"),
        (b"\xdd\xff\xff\xff\xff", "exceeds max_array_len"),
        (b"\xdf\xff\xff\xff\xff", "exceeds max_map_len"),
        (b"\xc6\xff\xff\xff\xff", "incomplete input"),
        (msgpack.packb(["a"] * 2000), "exceeds max_array_len"),
        (msgpack.packb([[{}] * 1000] * 2), f"more than {MAX_CONTAINERS} maps and lists"),
        (b"\xa2\xff\xfe", "not readable as msgpack"),
        (array(dtype="|O"), "an array of dtype '|O', expected one of"),
        (array(dtype="<f4,<f4"), "an array of dtype"),
        (array(dtype=["<f4"]), "unhashable"),
        (array(dtype="<c8"), "an array of dtype '<c8'"),
        (array(dtype="|V8"), "an array of dtype '|V8'"),
        (array(shape=[3]), "an array of shape (3,) and dtype <f4 has 8 bytes, expected 12"),
        (array(shape=[-2]), "an array of shape [-2], expected up to 8 positive sizes"),
        (array(shape=[True, 2]), "positive sizes"),
        (array(shape=[0, 2**62]), "positive sizes"),
        (array(shape=[2**40, 2**40]), "has 8 bytes, expected"),
        (array(shape=[1] * 9), "positive sizes"),
        (array(shape="2"), "positive sizes"),
        (array(data="text"), "the data of an array is a str, expected bytes"),
        (array(data=None), "the data of an array is a NoneType, expected bytes"),
        (msgpack.packb({b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}), "holds a str, expected a number"),
    ],
)
def test_bad_bytes_are_refused_with_the_reason(data, message):
    with pytest.raises(ServeError) as error:
        unpack(data)
    assert message in str(error.value)


def test_truth_values_are_zero_or_one():
    assert unpack(array(dtype="|b1", data=b"\x02\x00"))["x"].astype(np.float32).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("value", [np.array([object()]), np.array([1j]), np.array(["a"]), object()])
def test_only_numbers_are_sent(value):
    with pytest.raises(ServeError, match="cannot be sent"):
        pack({"x": value})
