"""Secrets are taken out of texts."""

from collections.abc import Iterator
import logging
import time

import av
from hypothesis import given, strategies as st
import pytest

from custom_components.nemotron_security.vision.redact import redact, redact_written, route_libav_log

WORDS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=6, max_size=15)


REPEATED = (
    *(
        "a",
        "a:",
        "a@",
        "a:b@",
        "x.",
        "bearer ",
        "bearer",
        "token",
        "token ",
        "password:",
        "://",
        "a://",
        'a://"',
        "a://@",
    ),
    *(
        "a?",
        "-",
        "=",
        "=:",
        " ",
        "eyJa.",
        "AKIA",
        "sk-",
        "pin ",
        "code",
        "code: ",
        "passphrase ",
        "cookie ",
        "a/",
        "1 ",
        '"',
    ),
)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("rtsp://user:pass@host/path?token=abc", "rtsp://***@host/path?***"),
        ("rtsp://user:p@ss/w@host:554/live", "rtsp://***@host:554/live"),
        ("rtsp://user:pa?ss@host/live", "rtsp://***"),
        ("open 'rtsp://user:p'a\"s<s>@host/live'", "open 'rtsp://***@host/live'"),
        ("http://host/video?email=a@b.example&key=k", "http://***"),
        ("http://host/video#access_token=k", "http://host/video#***"),
        ("rtsps://recorder:7441/aB3dE5gH7jK9mN1p", "rtsps://recorder:7441/***"),
        ("rtsp://host:554/Streaming/Channels/101", "rtsp://host:554/Streaming/Channels/101"),
        ("cannot open 'http://a:b@c/d', 'http://e:f@g/h'", "cannot open 'http://***@c/d', 'http://***@g/h'"),
        ("Authorization: Basic dTpw\r\nHost: x", "Authorization: ***\r\nHost: x"),
        ("login with password=hunter2 failed", "login with password=*** failed"),
        ("nothing secret at 10:30", "nothing secret at 10:30"),
        ("RTSP://User:Pass@host/", "RTSP://***@host/"),
        ("admin:hunter2@192.168.1.4/live", "***@192.168.1.4/live"),
        ("see //user:p@ss@camera/live", "see ***@camera/live"),
        ("www.cam.example/?auth_token=abc&x=1", "www.cam.example/?auth_token=***&x=1"),
        ("10.0.0.5/video?user=a&pwd=abc", "10.0.0.5/video?user=a&pwd=***"),
        ("Bearer sk-abc", "Bearer ***"),
        ("token: Bearer a1b2", "token: *** ***"),
        ("the key sk-abcdef0123456789", "the key ***"),
        ("token: abc, api_key: d", "token: *** api_key: ***"),
        ('{"apiKey": "abc", "password":"d"}', '{"apiKey": "***", "password":"***"}'),
        ("AIzaSyA1234567890abcdefghijklmnopqrstuvw", "***"),
        ("github_pat_11ABCDEFG0123456789abcdef ghp_0123456789abc", "*** ***"),
        ("xoxb-123456789012-abcdefghijkl, AKIAIOSFODNN7EXAMPLE", "***, ***"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhYmNkZWYifQ.abcDEF-123_456 end", "jwt *** end"),
        ('"http://a/x","http://b:c@d/y"', '"http://***@d/y"'),
        ("rtsp://r/aaaaaaaaaaaaaaaa/1234567890123456 x://y", "rtsp://r/aaaaaaaaaaaaaaaa/1234567890123456 x://y"),
        # what is no secret
        ("time: 12:30, opened at 12:30:05", "time: 12:30, opened at 12:30:05"),
        ("from 12:30 @ the door", "from 12:30 @ the door"),
        ("ann.smith@mail.example", "ann.smith@mail.example"),
        ("e-mail: ann@mail.example", "e-mail: ann@mail.example"),
        ("the ring bearer comes", "the ring bearer comes"),
        ("bus pass: blue; tokens: 512; a token of love", "bus pass: blue; tokens: 512; a token of love"),
        ("[h264 @ 0x55d0] host:8554 sk-1", "[h264 @ 0x55d0] host:8554 sk-1"),
        ("192.168.1.4:554 refused: error 5", "192.168.1.4:554 refused: error 5"),
    ],
)
def test_redact(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Passwort: hunter2", "Passwort: ***"),
        ("Kennwort=hunter2", "Kennwort=***"),
        ("the wifi password is hunter2.", "the wifi password is ***"),
        ("mot de passe : hunter2", "mot de passe : ***"),
        ("contraseña: hunter2", "contraseña: ***"),
        ("wifi pw: hunter2, guests", "wifi pw: *** guests"),
        ("WLAN-Schlüssel: hunter2", "WLAN-Schlüssel: ***"),
        ("passphrase: correct horse battery. Ring twice.", "passphrase: ***. Ring twice."),
        ("credentials: bob/hunter2", "credentials: ***"),
        ("PIN: 4711", "PIN: ***"),
        ("pin 47 11 ok", "pin *** ok"),
        ("alarm code 4711", "alarm code ***"),
        ("Türcode ist 4711", "Türcode ist ***"),
        ("The code of the gate is 4711#, ring twice", "The code of the gate is ***#, ring twice"),
        ("access code=998877", "access code=***"),
        ("PIN-Code: ab12cd", "PIN-Code: ***"),
        ("código: 4711", "código: ***"),
        ("token: abc", "token: ***"),
        # what is no secret
        ("The code of the gate is on the fridge", "The code of the gate is on the fridge"),
        ("The password is on the fridge", "The password is on the fridge"),
        ("Ask for the code. Came at 10:30 in 2026", "Ask for the code. Came at 10:30 in 2026"),
        ("code: red; a pin on 3 boards", "code: red; a pin on 3 boards"),
        ("my opinion of 1984, spinning 4711", "my opinion of 1984, spinning 4711"),
        ("Camera 4711, house number 123", "Camera 4711, house number 123"),
    ],
)
def test_redact_what_people_write(text: str, clean: str) -> None:
    assert redact_written(text) == clean


@pytest.mark.parametrize("part", REPEATED)
def test_time_grows_with_the_length(part: str) -> None:
    """Who sends an invitation writes its title. What grows with the square of the length takes minutes here."""
    text = (part * 300_000)[:300_000]
    begun = time.process_time()
    redact_written(text)
    assert time.process_time() - begun < 10


SIGNS = st.characters(codec="utf-8", categories=("L", "N", "P", "S"))


@given(user=WORDS, parts=st.lists(st.text(SIGNS, min_size=8), min_size=1, max_size=3), glue=st.sampled_from("@/?#:"))
def test_no_password_survives(user: str, parts: list[str], glue: str) -> None:
    """Also where it holds characters that belong encoded: no part of it is left."""
    clean = redact(f"open rtsp://u-{user}:{glue.join(parts)}@camera/live: failed")
    assert all(part not in clean for part in parts)
    assert f"u-{user}" not in clean
    assert clean.startswith("open rtsp://***")
    assert clean.endswith(" failed")


@given(value=st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=8))
def test_no_query_value_survives(value: str) -> None:
    assert value not in redact(f"http://host/p?q={value}&r=1 failed")


@pytest.fixture
def target() -> Iterator[logging.Logger]:
    logger = logging.getLogger("test.libav")
    yield logger
    logger.setLevel(logging.NOTSET)
    av.logging.set_level(None)


def test_libav_lines_are_debug_and_redacted(target: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    target.setLevel(logging.DEBUG)
    route_libav_log(target)
    av.logging.log(av.logging.ERROR, "rtsp", "cannot open rtsp://user:secret@host/x")
    # libav's threads of other tests may have their last words here too.
    lines = [(record.levelno, record.getMessage()) for record in caplog.records if record.name == target.name]
    assert (logging.DEBUG, "libav.rtsp: cannot open rtsp://***@host/x") in lines
    assert "secret" not in caplog.text


def test_libav_is_quiet_by_default(target: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    target.setLevel(logging.INFO)
    route_libav_log(target)
    av.logging.log(av.logging.ERROR, "h264", "decode_slice_header error")
    assert not caplog.records
