"""Columns of parquet files as numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.errors import DataError


def import_parquet(path: Path) -> Any:
    """pyarrow's parquet module; raises ``DataError`` when it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"{path} is parquet, which needs the package pyarrow, and that cannot be imported ({error}). Install it "
            "with: pip install 'onedp[data]'"
        ) from error
    return pyarrow.parquet


def count_rows(path: Path) -> int:
    """Rows of the file by its footer; raises ``DataError`` when it is missing or unreadable."""
    parquet = import_parquet(path)
    try:
        return int(parquet.read_metadata(path).num_rows)
    except Exception as error:  # pyarrow raises many kinds
        raise _unreadable(path, error) from error


def open_parquet(path: Path) -> Any:
    """A ``pyarrow.parquet.ParquetFile``; raises ``DataError`` when it is missing or unreadable."""
    parquet = import_parquet(path)
    try:
        return parquet.ParquetFile(path)
    except Exception as error:  # pyarrow raises many kinds
        raise _unreadable(path, error) from error


def read_group(path: Path, number: int, name: str) -> Any:
    """The column ``name`` of one row group, as pyarrow has it; raises ``DataError``."""
    with open_parquet(path) as file:
        try:
            return file.read_row_group(number, columns=[name], use_threads=False).column(0)
        except Exception as error:
            raise _unreadable(path, error) from error


def read_columns(path: Path, names: Sequence[str]) -> dict[str, ndarray]:
    """The columns ``names``, one row a step: vectors as ``(N, D)``, texts as objects; raises ``DataError``."""
    file = open_parquet(path)
    try:
        missing = sorted(set(names) - set(file.schema_arrow.names))
        if missing:
            raise DataError(f"{path} has no columns {missing}; it has {file.schema_arrow.names[:12]}.")
        table = file.read(columns=list(names), use_threads=False)
        return {name: _numbers(table.column(name).combine_chunks()) for name in names}
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _numbers(column: Any) -> ndarray:
    """A column with lists of any depth as one array; refuses rows of different lengths and missing values."""
    import pyarrow as pa

    shape = [len(column)]
    while (
        pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    ):
        if column.null_count:
            raise DataError(f"{column.null_count} rows have no value.")
        inner = column.flatten()
        rows = max(1, len(column))
        if len(inner) % rows:
            raise DataError("rows have different numbers of values.")
        width = len(inner) // rows
        if not pa.types.is_fixed_size_list(column.type) and len(column):
            lengths = np.diff(np.asarray(column.offsets))
            if (lengths != width).any():
                raise DataError("rows have different numbers of values.")
        shape.append(width)
        column = inner
    if column.null_count:
        raise DataError(f"{column.null_count} values are missing.")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)


def _unreadable(path: Path, error: Exception) -> DataError:
    if not path.is_file():
        return DataError(f"{path} is missing. Copy or download the data set again.")
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return DataError(f"{path} cannot be read ({reason}). It is damaged or no parquet; copy or download it again.")
