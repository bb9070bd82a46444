"""Takes secrets out of texts: errors and log lines name a camera's URL, and that holds its password."""

import logging
import re
from typing import override

_URL = re.compile(r"""(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<rest>(?:\S*@)?[^\s"'<>]*)""", re.IGNORECASE)
_TOKEN_SEGMENT = re.compile(r"(?=[^/]*\d)(?=[^/]*[A-Za-z])[A-Za-z0-9_~=-]{16,}(?=/|$)")
_AUTHORIZATION = re.compile(r"(authorization|cookie)(\s*[:=]\s*)[^\r\n]*", re.IGNORECASE)
_USER = re.compile(r"""(?<![^\s"'(<=])[^\s:@"'<>]{1,64}:(?!//)[^\s"'<>]{1,256}@(?=[\w\[])""")
"""`user:password@host` without a scheme."""
_BEARER = re.compile(r"\b(bearer)\s+(?=\S*[\d_.-]|\S{16})[^\s\"'<>]+", re.IGNORECASE)
_KEY = re.compile(r"\b(?:sk|nvapi|hf|gh[opsu])[-_][A-Za-z0-9_-]{8,}")
"""A key that is known by its beginning."""
# Short names are words too, so only an equals sign makes them a name of what follows.
_PAIR = re.compile(
    r"""((?:password|passwd|token|api[_-]?key|secret|signature)["']?[ \t]*[:=][ \t]*["']?"""
    r"""|(?<![a-z0-9])(?:pwd[:=][ \t]*|(?:pass|auth|sig)=))[^\s&"'<>]+""",
    re.IGNORECASE,
)


def redact(text: str, secret: str = "") -> str:
    """Return the text without user names, passwords, query values and tokens, and without `secret` if it is known.

    `rtsp://user:pass@host/path?token=x` becomes `rtsp://***@host/path?***`. Where a password holds characters that
    belong encoded (`/`, `?`, `@`, quotes), rather too much is taken than too little. Long path parts of letters and
    digits are taken too: for some recorders the path is the key. Without a scheme, `user:pass@host`, `token: x`,
    `Bearer x` and keys that begin as those of well-known services are found.
    """
    if secret:
        text = text.replace(secret, "***")
    text = _URL.sub(_redact_url, text)
    text = _AUTHORIZATION.sub(r"\1\2***", text)
    text = _USER.sub("***@", text)
    text = _KEY.sub("***", _BEARER.sub(r"\1 ***", text))
    return _PAIR.sub(r"\1***", text)


def _redact_url(match: re.Match[str]) -> str:
    return match["scheme"] + _redact_rest(match["rest"])


def _redact_rest(rest: str) -> str:
    head, mark, query = _split_query(rest)
    if "@" in query:
        # Either a password with a question mark in it, or a query with an at sign: there is no telling, so all goes.
        return "***"
    user, at, address = head.rpartition("@")
    address = _TOKEN_SEGMENT.sub("***", address)
    return ("***@" if at and user else "") + address + (f"{mark}***" if query else mark)


def _split_query(rest: str) -> tuple[str, str, str]:
    """Split at the first question mark or hash."""
    found = re.search(r"[?#]", rest)
    return (rest, "", "") if found is None else (rest[: found.start()], found[0], rest[found.end() :])


class _Forward(logging.Handler):
    """Hands libav's lines on, redacted and at debug: a camera's broken packets are daily bread, not warnings."""

    def __init__(self, target: logging.Logger) -> None:
        super().__init__()
        self._target = target

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if self._target.isEnabledFor(logging.DEBUG):
            self._target.debug("%s: %s", record.name, redact(record.getMessage().strip()))


def route_libav_log(target: logging.Logger) -> None:
    """Send libav's log lines to `target` at debug level, redacted; nowhere while that level is off.

    Call it again when the level of `target` changes.
    """
    import av  # noqa: PLC0415  # Home Assistant's process redacts too, and must not load libav for that

    libav = logging.getLogger("libav")
    libav.handlers = [_Forward(target)]
    libav.propagate = False
    # Off means off: with no level libav's lines are dropped in C, without taking the GIL in the middle of decoding.
    av.logging.set_level(av.logging.WARNING if target.isEnabledFor(logging.DEBUG) else None)
