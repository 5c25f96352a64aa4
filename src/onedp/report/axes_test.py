from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onedp.report.axes import shortened, spread


@given(st.lists(st.floats(0, 1), max_size=8))
def test_spread_keeps_order_distance_and_frame(places):
    moved = np.array(spread(places, 0.1))
    order = np.argsort(places, kind="stable")
    assert (np.diff(moved[order]) > 0.1 - 1e-9).all()
    assert ((moved > -1e-9) & (moved < 1 + 1e-9)).all()


def test_spread_leaves_alone_what_has_room_and_centres_what_collides():
    assert spread([0.9, 0.1, 0.5], 0.1) == pytest.approx([0.9, 0.1, 0.5])
    assert spread([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    assert spread([1.0, 1.0], 0.2) == pytest.approx([0.8, 1.0])


@example("00000000 0", 9)
@example(" " * 12, 9)
@given(st.text(min_size=1, max_size=60), st.integers(9, 30))
def test_shortened_fits(name, characters):
    assert len(shortened(name, characters)) <= max(characters, 9)


def test_shortened_keeps_the_sampler():
    assert shortened("ddpm ddim:10", 17) == "ddpm ddim:10"
    assert shortened("my-own-student-with-a-long-name one-step", 20) == "my-own-stu… one-step"
