"""The framing between the two processes."""

import asyncio
import contextlib
import dataclasses
import io
import json
import struct
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import given, settings, strategies as st
import pytest

from custom_components.nemotron_security.vision import messages, wire
from custom_components.nemotron_security.vision.messages import Box, FrameTracks, Message, Point, PushStill, TrackState

KINDS: list[type[Any]] = [
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and kind.__name__ in wire.KINDS and dataclasses.is_dataclass(kind)
]
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def _values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of an annotated field; NaN is left out because it does not equal itself."""
    if hint is float:
        return FINITE
    if hint in (Box, Point):
        return st.tuples(*(FINITE for _ in hint._fields)).map(hint._make)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _messages(hint)
    arguments = get_args(hint)
    if type(None) in arguments:
        return st.none() | _values(next(item for item in arguments if item is not type(None)))
    if get_origin(hint) is tuple:
        return st.lists(_values(arguments[0]), max_size=3).map(tuple)
    return st.from_type(hint)


def _messages(kind: type[Any]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{name: _values(hint) for name, hint in get_type_hints(kind).items()})


def test_every_member_of_message_is_covered() -> None:
    members = (*get_args(messages.Command.__value__), *get_args(messages.Report.__value__))
    assert {kind.__name__ for kind in members} == set(wire.KINDS) == {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_any_message_survives_the_pipe(kind: type[Any]) -> None:
    @settings(max_examples=40, deadline=None)
    @given(_messages(kind))
    def round_trip(message: Message) -> None:
        stream = io.BytesIO(wire.encode(message) * 2)
        assert wire.read(stream) == message
        assert wire.read(stream) == message
        assert wire.read(stream) is None

    round_trip()


def test_boxes_and_nested_messages_keep_their_types() -> None:
    state = TrackState(
        track_id=7,
        label="person",
        confidence=0.8,
        score=0.9,
        box=Box(1.0, 2.0, 3.5, 4.0),
        first_seen_at=1.0,
        last_seen_at=2.0,
        confirmed=True,
        moved=True,
        stationary=False,
    )
    sent = FrameTracks(camera_id="c", frame_id=3, captured_at=2.0, width=640, height=360, tracks=(state,))
    got = wire.read(io.BytesIO(wire.encode(sent)))
    assert isinstance(got, FrameTracks)
    assert isinstance(got.tracks, tuple)
    assert isinstance(got.tracks[0], TrackState)
    assert got.tracks[0].box.width == 2.5


def test_raw_bytes_travel_as_they_are() -> None:
    data = bytes(range(256)) * 100
    wired = wire.encode(PushStill(camera_id="c", captured_at=1.0, data=data))
    assert wired.endswith(data)
    assert len(wired) < len(data) + 200


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waits_for_more(garbage: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        assert wire.read(io.BytesIO(garbage)) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_a_wrong_type_never_gets_through(kind: type[Any], data: st.DataObject) -> None:
    header: dict[str, object] = {"type": kind.__name__}
    header |= {name: data.draw(_JSON) for name in get_type_hints(kind) if name != "data"}
    try:
        message = wire.decode(json.dumps(header).encode(), b"")
    except wire.WireError:
        return
    assert wire.read(io.BytesIO(wire.encode(message))) == message or "NaN" in json.dumps(header)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"type":"Nothing"}',
        b'{"type":"Shutdown","extra":1}',
        b'{"type":"StopCamera"}',
        b'{"type":"StopCamera","camera_id":5}',
        b'{"type":"GetSnapshot","request_id":true,"camera_id":"c"}',
        b'{"type":["Shutdown"]}',
        b'{"type":"Shutdown"',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_refused(head: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(head, b"")


@pytest.mark.parametrize("prefix", [(wire.MAX_HEADER + 1, 0), (1, wire.MAX_DATA + 1)])
async def test_an_impossible_length_is_refused_before_it_is_read(prefix: tuple[int, int]) -> None:
    wired = struct.pack("<II", *prefix)
    with pytest.raises(wire.WireError):
        wire.read(io.BytesIO(wired))
    stream = asyncio.StreamReader()
    stream.feed_data(wired)
    with pytest.raises(wire.WireError):
        await wire.async_read(stream)


async def test_both_readers_agree_and_end_quietly_in_the_middle_of_a_message() -> None:
    message = PushStill(camera_id="c", captured_at=1.0, data=b"12345")
    wired = wire.encode(message)
    for length in range(len(wired)):
        stream = asyncio.StreamReader()
        stream.feed_data(wired[:length])
        stream.feed_eof()
        assert await wire.async_read(stream) is None
        assert wire.read(io.BytesIO(wired[:length])) is None
    stream = asyncio.StreamReader()
    stream.feed_data(wired)
    assert await wire.async_read(stream) == message
