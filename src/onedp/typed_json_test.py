"""Messages about JSON that does not fit: in the file's words, with the entry and what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from onedp.errors import ArtifactError
from onedp.typed_json import from_json, kind_from_json, read_json_object


@dataclass(frozen=True)
class Wheel:
    size: float
    spokes: int | None = None


@dataclass(frozen=True)
class Cart:
    wheels: tuple[Wheel, ...]
    limits: tuple[float, ...] = (1.0,)
    colour: Literal["red", "blue"] = "red"
    open: bool = True


def test_lists_become_tuples_and_whole_numbers_floats():
    cart = from_json(Cart, {"wheels": [{"size": 3}, {"size": 2.5, "spokes": 4}], "limits": [1, 2]}, "The cart")
    assert cart == Cart((Wheel(3.0), Wheel(2.5, 4)), (1.0, 2.0))
    assert isinstance(cart.limits[0], float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "The cart is [], expected an object."),
        ({}, "The cart has no entry 'wheels'."),
        ({"wheels": [{}]}, "The cart has no entry 'wheels.size'."),
        ({"wheels": [], "wings": 2}, "The cart has the unknown entries ['wings']."),
        ({"wheels": "four"}, "The cart: 'wheels' is a text, expected a list of objects."),
        ({"wheels": [{"size": None}]}, "The cart: 'wheels.size' is null, expected a number."),
        ({"wheels": [{"size": 1, "spokes": 1.5}]}, "'wheels.spokes' is 1.5, expected a whole number or null."),
        ({"wheels": [], "limits": [None]}, "expected a list of numbers."),
        ({"wheels": [], "colour": "green"}, "The cart: 'colour' is \"green\", expected one of ['red', 'blue']."),
        ({"wheels": [], "open": 1}, "The cart: 'open' is 1, expected true or false."),
    ],
)
def test_what_does_not_fit_is_named(data, message):
    with pytest.raises(ArtifactError) as caught:
        from_json(Cart, data, "The cart")
    assert message in str(caught.value)


def test_a_kind_that_is_no_text_is_named():
    with pytest.raises(ArtifactError, match=r"Unknown part '\[1\]'"):
        kind_from_json({"wheel": Wheel}, {"kind": [1]}, "part")
    assert kind_from_json({"wheel": Wheel}, {"kind": "wheel", "size": 1.0}, "part") == Wheel(1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "holds [1], expected a JSON object"), ("{", "is not valid JSON"), ('{"a": NaN}', "it holds NaN")],
)
def test_files_that_are_no_object_are_named(tmp_path, text, message):
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(ArtifactError) as caught:
        read_json_object(tmp_path / "spec.json")
    assert message in str(caught.value)
    with pytest.raises(ArtifactError, match="Is this a complete policy folder"):
        read_json_object(tmp_path / "missing.json")
