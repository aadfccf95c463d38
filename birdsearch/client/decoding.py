"""From JSON to frozen dataclasses, by their types."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

from birdsearch.errors import ServiceError

__all__ = ["decode"]

T = TypeVar("T")


def decode(kind: type[T], value: Any) -> T:
    """Make a frozen dataclass of what JSON holds; keys that it does not know are passed over.

    Args:
        kind: The dataclass, or a type of one of its fields.
        value: JSON types.

    Returns:
        The value as its type says.

    Raises:
        ServiceError: A value is missing or of another type: the service is of another version.
    """
    return typing.cast("T", _decoded(kind, value, getattr(kind, "__name__", str(kind))))


def _decoded(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _decoded(_without_none(kind), value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_decoded(get_args(kind)[0], item, where) for item in value)
    if isinstance(value, Mapping) and hasattr(kind, "from_dict"):
        try:
            return kind.from_dict(value)
        except (KeyError, TypeError) as error:
            raise ServiceError(f"the service sent a {where} of another version: {error!r}") from None
    if isinstance(value, Mapping) and isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        given = {
            each.name: _decoded(hints[each.name], value[each.name], f"{where}.{each.name}")
            for each in dataclasses.fields(kind)
            if each.name in value
        }
        try:
            return kind(**given)
        except TypeError as error:
            raise ServiceError(f"the service sent a {where} of another version: {error}") from None
    wanted = (int, float) if kind is float else Mapping if origin is not None else kind
    if kind is Any or isinstance(value, wanted):
        return value
    raise ServiceError(f"the service sent a {where} of another version: {value!r}")


def _without_none(kind: Any) -> Any:
    return next(each for each in get_args(kind) if each is not types.NoneType)
