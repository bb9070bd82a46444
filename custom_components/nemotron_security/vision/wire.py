"""Framing between the two processes: a length-prefixed JSON header and raw bytes.

One message is `<header length: u32 LE><data length: u32 LE><header: JSON><data>`. The header is the dataclass of
`messages.py` as an object with its class name under `type`; a field named `data` is sent as the raw bytes.
"""

import asyncio
from collections.abc import Callable
import dataclasses
from enum import StrEnum
import json
import struct
import types
from typing import Any, BinaryIO, TypeAliasType, Union, get_args, get_origin, get_type_hints

from . import messages
from .messages import Box, Message, Point

_PREFIX = struct.Struct("<II")
MAX_HEADER = 4 * 1024 * 1024
MAX_DATA = 64 * 1024 * 1024


class WireError(Exception):
    """What came is not a message of ours; the stream cannot be trusted any more."""


def _flatten(alias: TypeAliasType | type) -> list[type]:
    value = alias.__value__ if isinstance(alias, TypeAliasType) else alias
    members = get_args(value)
    return [kind for member in members for kind in _flatten(member)] if members else [value]


KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in _flatten(messages.Message)}


def encode(message: Message) -> bytes:
    """Turn a message into bytes for the pipe."""
    header: dict[str, Any] = {"type": type(message).__name__, **_plain(message)}
    data: bytes = header.pop("data", b"")
    head = json.dumps(header, separators=(",", ":")).encode()
    return _PREFIX.pack(len(head), len(data)) + head + data


def decode(head: bytes, data: bytes) -> Message:
    """Build the message of a header and its raw bytes.

    Raises:
        WireError: the header is not JSON, names an unknown type, lacks a field or has a value of another type.
    """
    try:
        header = json.loads(head)
        kind = KINDS[header.pop("type")]
        if "data" in _field_readers(kind):
            header["data"] = data
        return _read_dataclass(kind, header)  # type: ignore[no-any-return]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise WireError(f"not a message: {head[:80]!r}") from err


def read(stream: BinaryIO) -> Message | None:
    """Read one message from a blocking stream; None at its end."""
    prefix = _read_exactly(stream, _PREFIX.size)
    if prefix is None:
        return None
    head_length, data_length = _lengths(prefix)
    head = _read_exactly(stream, head_length)
    data = _read_exactly(stream, data_length)
    if head is None or data is None:
        return None
    return decode(head, data)


async def async_read(stream: asyncio.StreamReader) -> Message | None:
    """Read one message from an asyncio stream; None at its end."""
    try:
        head_length, data_length = _lengths(await stream.readexactly(_PREFIX.size))
        head = await stream.readexactly(head_length)
        data = await stream.readexactly(data_length) if data_length else b""
    except asyncio.IncompleteReadError:
        return None
    return decode(head, data)


def to_plain(value: Any) -> dict[str, Any]:
    """Return a dataclass as JSON has it."""
    return _plain(value)


def from_plain[T](kind: type[T], plain: Any) -> T:
    """Build the dataclass that `to_plain` took apart.

    Raises:
        WireError: a field is missing, unknown or of another type.
    """
    try:
        built: T = _read_dataclass(kind, plain)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise WireError(f"no {kind.__name__}") from err
    return built


def _lengths(prefix: bytes) -> tuple[int, int]:
    head_length, data_length = _PREFIX.unpack(prefix)
    if head_length > MAX_HEADER or data_length > MAX_DATA:
        raise WireError("a message of impossible length")
    return head_length, data_length


def _read_exactly(stream: BinaryIO, count: int) -> bytes | None:
    parts: list[bytes] = []
    while count:
        part = stream.read(count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _plain(value: Any) -> dict[str, Any]:
    """Like dataclasses.asdict, but without copying bytes and leaving named tuples to JSON (which writes lists)."""
    return {field.name: _plain_value(getattr(value, field.name)) for field in dataclasses.fields(value)}


def _plain_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _plain(value)
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        return [_plain(item) for item in value]
    return value


type _Reader = Callable[[Any], Any]

_READERS: dict[type[Any], dict[str, _Reader]] = {}


def _field_readers(kind: type[Any]) -> dict[str, _Reader]:
    readers = _READERS.get(kind)
    if readers is None:
        hints = get_type_hints(kind)
        readers = _READERS[kind] = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}
    return readers


def _read_dataclass(kind: type[Any], plain: dict[str, Any]) -> Any:
    readers = _field_readers(kind)
    return kind(**{name: readers[name](value) for name, value in plain.items()})


def _reader(hint: Any) -> _Reader:
    """Return the function that turns a JSON value into the annotated type."""
    if get_origin(hint) in (Union, types.UnionType):
        inner = _reader(next(member for member in get_args(hint) if member is not type(None)))
        return lambda value: None if value is None else inner(value)
    if isinstance(hint, type) and issubclass(hint, (Box, Point)):
        return lambda value: hint(*[_read_number(number) for number in value])
    if get_origin(hint) is tuple:
        return _tuple_reader(_reader(get_args(hint)[0]))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return lambda value: _read_dataclass(hint, value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint
    return _scalar_reader(get_origin(hint) or hint)


def _tuple_reader(inner: _Reader) -> _Reader:
    def read_tuple(value: Any) -> Any:
        if type(value) is not list:  # a text would be a tuple of its letters
            raise TypeError(f"{type(value).__name__} where a list belongs")
        return tuple([inner(item) for item in value])

    return read_tuple


def _scalar_reader(kind: type[Any]) -> _Reader:
    accepted = {kind, int} if kind is float else {kind}  # JSON of other writers has 1 for 1.0; True is no number

    def read_scalar(value: Any) -> Any:
        if type(value) not in accepted:
            raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
        return value

    return read_scalar


_read_number = _scalar_reader(float)
