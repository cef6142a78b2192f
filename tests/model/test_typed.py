"""Tests for `streamfn.model.typed`: payloads as the types that functions name."""

import enum
import functools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import orjson
import pytest

from streamfn.model.typed import decoder_of


@dataclass
class Item:
    name: str
    amount: int = 1


@dataclass
class Order:
    items: list[Item]


class Struct(msgspec.Struct):
    name: str


class Typed(TypedDict):
    name: str


class Named(NamedTuple):
    name: str


class Colour(enum.Enum):
    RED = "red"


class Model:
    """What streamfn knows of a pydantic model."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Model) and self.value == other.value

    __hash__ = None

    @classmethod
    def model_validate_json(cls, data):
        return cls(orjson.loads(data))

    @classmethod
    def model_validate(cls, value):
        return cls(value)


class Event(dict):
    """A class of a library that wraps the event itself."""


def taking(kind):
    def handler(payload, context): ...

    handler.__annotations__["payload"] = kind
    return handler


NUMBER = uuid.UUID(int=7)
TIME = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "payload", "value"),
    [
        (Item, b'{"name":"a"}', Item("a")),
        (Order, b'{"items":[{"name":"a","amount":2}]}', Order([Item("a", 2)])),
        (list[Item], b'[{"name":"a"}]', [Item("a")]),
        (Item | None, b"null", None),
        (dict[str, Item], b'{"x":{"name":"a"}}', {"x": Item("a")}),
        (Struct, b'{"name":"a"}', Struct("a")),
        (Typed, b'{"name":"a","more":1}', {"name": "a"}),
        (Named, b'["a"]', Named("a")),
        (Colour, b'"red"', Colour.RED),
        (Literal["a", "b"], b'"b"', "b"),
        (Annotated[int, msgspec.Meta(ge=1)], b"1", 1),
        (uuid.UUID, orjson.dumps(NUMBER), NUMBER),
        (datetime, orjson.dumps(TIME), TIME),
        (tuple[int, str], b'[1,"a"]', (1, "a")),
        (Model, b'{"a":1}', Model({"a": 1})),
        (list[Model], b"[1,2]", [Model(1), Model(2)]),
    ],
)
def test_a_type_is_made_of_the_payload(kind, payload, value):
    decoded = decoder_of(taking(kind))(payload)

    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    "kind",
    [Any, object, dict, list, Mapping, dict[str, Any], list[Any], Event, list[Event], "Unknown", 7],
)
def test_other_annotations_get_the_json_value(kind):
    for value in ({"a": 1}, [1], None):
        decoded = decoder_of(taking(kind))(orjson.dumps(value))
        assert decoded == value
        assert type(decoded) is type(value)


@pytest.mark.parametrize(
    ("kind", "payload", "path"),
    [
        (Item, b'{"name":1}', "$.name"),
        (Item, b"{}", "`name`"),
        (Order, b'{"items":[{"name":"a"},{"name":"b","amount":"two"}]}', "$.items[1].amount"),
        (int, b'"1"', "Expected `int`, got `str`"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_with_its_place(kind, payload, path):
    with pytest.raises(msgspec.ValidationError) as caught:
        decoder_of(taking(kind))(payload)

    assert path in str(caught.value)


def test_the_first_parameter_counts_wherever_the_function_stands():
    class Prices:
        def of(self, item: Item): ...

        def __call__(self, item: Item): ...

    @functools.wraps(Prices.of)
    def wrapped(*args): ...

    async def later(item: Item): ...

    for handler in (Prices().of, Prices(), later):
        assert decoder_of(handler)(b'{"name":"a"}') == Item("a")


@pytest.mark.parametrize("handler", [print, len, lambda *a: a, functools.partial(print, 1)])
def test_a_function_that_says_nothing_gets_the_json_value(handler):
    assert decoder_of(handler)(b'{"a":[1]}') == {"a": [1]}
