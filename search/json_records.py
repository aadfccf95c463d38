"""Frozen dataclasses as JSON types and back: one record serves Python, JSON, OpenAPI and the client.

A field's metadata, of which pydantic reads the same keys, says where JSON differs from Python: `alias` is the name
in JSON, `exclude` leaves the field out, and `exclude_if` leaves it out for some values. A `Box` is `[x, y, w, h]`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

from birdsearch.model.images.box import Box

__all__ = ["HIDDEN", "OPTIONAL", "SHARE", "Record", "from_json", "to_json"]

T = TypeVar("T")

HIDDEN: Mapping[str, Any] = {"exclude": True}
"""Metadata of a field that JSON does not have."""


def _is_none(value: object) -> bool:
    return value is None


OPTIONAL: Mapping[str, Any] = {"exclude_if": _is_none}
"""Metadata of a field that JSON has only where it is not None."""

SHARE: Mapping[str, Any] = {"ge": 0, "le": 1}
"""Metadata of a number from 0 to 1."""

_PLAIN = (str, int, float, bool, types.NoneType)


class Record:
    """Base of dataclasses that travel as JSON."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return _dict_of(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the record that JSON types describe; see `from_json`."""
        return from_json(cls, value)


def to_json(value: Any) -> Any:
    """Return a value as JSON types.

    Args:
        value: A record, or a list, tuple or mapping of records and JSON types.
    """
    if value.__class__ in _PLAIN:
        return value
    if isinstance(value, Box):
        return [value.x, value.y, value.w, value.h]
    if isinstance(value, Record):
        return _dict_of(value)
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def _dict_of(record: Record) -> dict[str, Any]:
    kind: Any = type(record)
    items = {}
    for attribute, name, is_left_out in _fields_of(kind):
        value = getattr(record, attribute)
        if is_left_out is None or not is_left_out(value):
            items[name] = to_json(value)
    return items


@cache
def _fields_of(kind: Any) -> tuple[tuple[str, str, Callable[[Any], bool] | None], ...]:
    """Return attribute, name in JSON and `exclude_if` of each field that JSON has."""
    return tuple(
        (each.name, each.metadata.get("alias", each.name), each.metadata.get("exclude_if"))
        for each in dataclasses.fields(kind)
        if not each.metadata.get("exclude")
    )


@cache
def _hints_of(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def from_json(kind: type[T], value: Any) -> T:
    """Return what JSON types describe; keys that the record does not have are passed over.

    Args:
        kind: A record, or the type of one of its fields.
        value: JSON types.

    Raises:
        ValueError: A value is missing or of another type; the message names the field.
    """
    return typing.cast("T", _decoded(kind, value, getattr(kind, "__name__", str(kind))))


def _decoded(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _decoded(_without_none(kind), value, where)
    if origin is Literal and isinstance(value, type(get_args(kind)[0])):
        # Any text: a newer service may have one more.
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_decoded(get_args(kind)[0], item, where) for item in value)
    if kind is Box and isinstance(value, list) and len(value) == 4:
        return Box(*(_decoded(float, item, where) for item in value))
    if isinstance(kind, type) and issubclass(kind, Record) and isinstance(value, Mapping):
        record: Any = kind
        hints = _hints_of(record)
        given = {
            attribute: _decoded(hints[attribute], value[name], f"{where}.{name}")
            for attribute, name, _ in _fields_of(record)
            if name in value
        }
        try:
            return kind(**given)
        except TypeError as error:
            raise ValueError(f"{where}: {error}") from None
    wanted = (int, float) if kind is float else Mapping if origin is not None else kind
    if kind is Any or (isinstance(wanted, type | tuple) and isinstance(value, wanted)):
        return value
    raise ValueError(f"{where}: {value!r}")


def _without_none(kind: Any) -> Any:
    return next(each for each in get_args(kind) if each is not types.NoneType)
