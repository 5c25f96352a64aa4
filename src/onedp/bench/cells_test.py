"""A cell is made once; another option is another cell; a damaged file is named."""

from __future__ import annotations

import json

import pytest

from onedp.bench.cells import Cell, CellStore, UnfinishedError
from onedp.errors import OneDPError


def make_counter(results):
    calls: list[None] = []

    def make():
        calls.append(None)
        return results

    return calls, make


def test_a_finished_cell_is_not_made_again_and_another_option_is(tmp_path):
    store = CellStore(tmp_path)
    calls, make = make_counter({"valid": 0.5})
    cell = Cell("onedp-s@0.1", {"steps": 3, "seed": 0})
    assert store.done(cell, make) == store.done(cell, make) == {"valid": 0.5}
    assert len(calls) == 1
    assert store.done(Cell("renamed", {"seed": 0, "steps": 3}), make) == {"valid": 0.5}
    assert len(calls) == 1  # a name is for people
    assert store.stem(Cell("renamed", {"seed": 0, "steps": 3})) == cell.stem  # where things kept beside it are
    store.done(Cell("onedp-s@0.1", {"steps": 3, "seed": 1}), make)
    assert len(calls) == 2


def test_a_store_that_only_looks_makes_nothing(tmp_path):
    calls, make = make_counter({"valid": 0.5})
    cell = Cell("onedp-s-0", {"steps": 3})
    looking = CellStore(tmp_path, make_missing=False)
    with pytest.raises(UnfinishedError, match=r"onedp-s-0 is not finished\. Run the same command without"):
        looking.done(cell, make)
    CellStore(tmp_path).done(cell, make)
    assert looking.done(cell, make) == {"valid": 0.5}
    assert len(calls) == 1


def test_file_names_are_harmless(tmp_path):
    cell = Cell("edm/onedp-s:paper@heun:10 ../x", {"a": 1})
    assert cell.stem == f"edm-onedp-s-paper-heun-10-..-x-{cell.digest}"
    assert CellStore(tmp_path).path(cell).parent == tmp_path / "cells"


def test_an_interrupted_cell_leaves_nothing(tmp_path):
    store, cell = CellStore(tmp_path), Cell("a", {"a": 1})

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.done(cell, fail)
    assert store.find(cell) is None


def test_damaged_and_foreign_files_are_refused(tmp_path):
    store, cell = CellStore(tmp_path), Cell("a", {"a": 1})
    store.done(cell, lambda: {"x": 1})
    path = store.path(cell)
    saved = json.loads(path.read_text())
    path.write_text("{")
    with pytest.raises(OneDPError, match=r"cannot be read .* Remove it, and it is made again"):
        store.find(cell)
    path.write_text(json.dumps({**saved, "identity": {"a": 2}}))
    with pytest.raises(OneDPError, match="is the result of something else than its name says"):
        store.find(cell)
