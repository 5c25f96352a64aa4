from __future__ import annotations

import numpy as np
import pytest

from onedp.data.lazy import LazyArray, block_slices, concatenated, mapped, selected
from onedp.errors import DataError

VALUES = np.arange(7 * 2 * 3, dtype=np.float32).reshape(7, 2, 3)


def lazy(values: np.ndarray = VALUES, run: int = 1) -> tuple[LazyArray, list[list[int]]]:
    """An array that notes which rows were read."""
    asked: list[list[int]] = []

    def read(rows: np.ndarray) -> np.ndarray:
        asked.append(rows.tolist())
        return values[rows]

    return LazyArray(values.shape, values.dtype, read, run), asked


@pytest.mark.parametrize(
    "rows",
    [slice(None), slice(2, 5), slice(5, 2), slice(-2, None), np.array([[3, 3], [0, 6]]), np.array([], dtype=int)],
)
def test_indexing_is_numpys(rows: slice | np.ndarray) -> None:
    found = lazy()[0][rows]
    np.testing.assert_array_equal(found, VALUES[rows])
    assert found.dtype == VALUES.dtype


def test_a_row_is_read_once_and_in_increasing_order() -> None:
    array, asked = lazy()
    np.testing.assert_array_equal(array[np.array([5, 1, 5, 1, 2])], VALUES[[5, 1, 5, 1, 2]])
    assert asked == [[1, 2, 5]]


def test_it_does_not_become_an_array_unawares() -> None:
    array, asked = lazy()
    with pytest.raises(
        DataError, match=r"shape \(7, 2, 3\) are read from disk on demand; all of them would take 0.0 GiB"
    ):
        np.asarray(array)
    assert asked == []


def test_selected_concatenated_and_mapped_rows() -> None:
    array, asked = lazy()
    chosen = selected(array, np.array([1, 2, 6]))
    both = concatenated([chosen, VALUES, array])
    expected = np.concatenate([VALUES[[1, 2, 6]], VALUES, VALUES])
    assert isinstance(both, LazyArray)
    assert (len(both), both.shape, both.ndim, both.nbytes) == (17, (17, 2, 3), 3, 17 * 24)
    np.testing.assert_array_equal(both[np.array([0, 16, 5, 2])], expected[[0, 16, 5, 2]])
    assert asked == [[1, 6], [6]]
    doubled = mapped(array, lambda rows: (2 * rows).astype(np.uint8), np.dtype(np.uint8))
    np.testing.assert_array_equal(doubled[1:3], (2 * VALUES[1:3]).astype(np.uint8))
    assert doubled.dtype == np.uint8


def test_blocks_never_cut_what_is_stored_together() -> None:
    array, _ = lazy(run=2)
    assert [(each.start, each.stop) for each in block_slices(array, block_bytes=24 * 3)] == [
        (0, 2),
        (2, 4),
        (4, 6),
        (6, 7),
    ]
    assert [(each.start, each.stop) for each in block_slices(VALUES, block_bytes=24 * 3)] == [(0, 3), (3, 6), (6, 7)]
