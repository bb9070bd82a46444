"""Dataclasses of the domain as plain JSON and back."""

from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints


def to_plain(value: object) -> Any:
    """Return what JSON can keep of a dataclass of texts, numbers, times, tuples and such dataclasses."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain[T](kind: type[T], plain: Any) -> T:
    """Return what `to_plain` made plain. A field that the dataclass has no longer is left out.

    Raises:
        AttributeError, TypeError, ValueError: it is not of that kind.
    """
    return cast("T", _restored(kind, plain))


def _restored(hint: Any, plain: Any) -> Any:
    if isinstance(hint, UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
        return None if plain is None else _restored(hint, plain)
    if get_origin(hint) is tuple:
        return tuple(_restored(get_args(hint)[0], item) for item in plain)
    if is_dataclass(hint):
        return _restored_dataclass(cast("type[Any]", hint), plain)
    if hint is datetime:
        return datetime.fromisoformat(plain)
    if not isinstance(plain, hint):
        raise TypeError(f"{type(plain).__name__} is no {hint.__name__}")
    return plain


def _restored_dataclass(kind: type[Any], plain: dict[str, Any]) -> Any:
    hints = _hints(kind)  # type: ignore[arg-type]  # a class has a hash, whatever it is
    return kind(**{name: _restored(hints[name], value) for name, value in plain.items() if name in hints})


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the types of a dataclass's fields, which are read from its source's text each time."""
    return get_type_hints(kind)
