"""Takes secrets out of texts: errors and log lines name a camera's URL, and that holds its password."""

import logging
import re
import string
from typing import override

# Whoever sends an invitation writes its title: nothing here may take more than a time that grows with the length.
_WORD = re.compile(r"\S+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}://", re.IGNORECASE)
_END = re.compile(r"""["'<>]""")
_QUERY = re.compile(r"[?#]")
_TOKEN_SIGNS = string.ascii_letters + string.digits + "_~=-"
_TOKEN_LENGTH = 16
_AUTHORIZATION = re.compile(r"(authorization|cookie)(\s*[:=]\s*)[^\r\n]*", re.IGNORECASE)
_USER = re.compile(r"""(?<![^\s"'(<=])[^\s:@"'<>]{1,64}:(?!//)[^\s"'<>]{1,256}@(?=[\w\[])""")
"""`user:password@host` without a scheme."""
_BEARER = re.compile(r"\b(bearer)\s+(?=\S*[\d_.-]|\S{16})[^\s\"'<>]+", re.IGNORECASE)
_KEY = re.compile(
    r"\b(?:(?:sk|nvapi|hf|gh[oprsu]|github_pat|glpat|xox[a-z]|xapp)[-_][A-Za-z0-9_-]{8,}"
    r"|AIza[A-Za-z0-9_-]{16,}|A(?:KI|SI)A[A-Z0-9]{12,}|eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?)"
)
"""A key that is known by its beginning; the last is a JSON web token."""
# Short names are words too, so only an equals sign makes them a name of what follows.
_PAIR = re.compile(
    r"""((?:password|passwd|token|api[_-]?key|secret|signature)["']?[ \t]*[:=][ \t]*["']?"""
    r"""|(?<![a-z0-9])(?:pwd[:=][ \t]*|(?:pass|auth|sig)=))[^\s&"'<>]+""",
    re.IGNORECASE,
)


# What people call a secret in what they write, in some languages.
_SPOKEN = re.compile(
    r"""((?<!\w)(?:pass ?words?|pass ?wort|kennwort|pass ?code|pw|credentials|zugangsdaten|mot de passe|contrase[nñ]a"""
    r"""|senha|palavra-passe|wachtwoord|l[oö]senord|adgangskode|passord|salasana|has[lł]o|heslo|parola"""
    r"""|(?:wi-?fi|wlan)[- ]?(?:key|schlüssel))"""
    r"""(?:[ \t]*[:=][ \t]*["']?|[ \t]+(?:is|ist|est|es|[eè])[ \t]+(?=\S{0,64}\d)))[^\s"'<>]+""",
    re.IGNORECASE,
)
_PHRASE = re.compile(r"(pass[- ]?phrase[ \t]*[:=][ \t]*)[^\r\n,;.]+", re.IGNORECASE)
_CODE_WORD = r"(?<!\w)(?:\w{0,20}(?:code|kode|kod)|pin|c[oó]digo|codice|koodi)(?!\w)"
_CODE = re.compile(
    rf"({_CODE_WORD}(?:[^\d\r\n.;!?]{{0,24}}(?=\d(?:[ -]?\d){{2}})|[ \t]*[:=][ \t]*(?=\w{{0,40}}\d)))\w(?:[ -]?\d|\w)+",
    re.IGNORECASE,
)
"""A word for a code and soon after it three digits or more; after a colon, letters and digits."""


def redact(text: str, secret: str = "") -> str:
    """Return the text without user names, passwords, query values and tokens, and without `secret` if it is known.

    `rtsp://user:pass@host/path?token=x` becomes `rtsp://***@host/path?***`. Where a password holds characters that
    belong encoded (`/`, `?`, `@`, quotes), rather too much is taken than too little. Long path parts of letters and
    digits are taken too: for some recorders the path is the key. Without a scheme, `user:pass@host`, `token: x`,
    `Bearer x` and keys that begin as those of well-known services are found.
    """
    if secret:
        text = text.replace(secret, "***")
    if "://" in text:
        text = _WORD.sub(_redact_urls, text)
    text = _AUTHORIZATION.sub(r"\1\2***", text)
    text = _USER.sub("***@", text)
    text = _KEY.sub("***", _BEARER.sub(r"\1 ***", text))
    return _PAIR.sub(r"\1***", text)


def redact_written(text: str) -> str:
    """Return a text that people wrote, without what `redact` finds and what else they tell each other.

    `Passwort: x`, `password is x`, `PIN 4711`, `alarm code: 4711`; the code of the gate stays when it is not said.
    """
    text = _PHRASE.sub(r"\1***", redact(text))
    return _CODE.sub(r"\1***", _SPOKEN.sub(r"\1***", text))


def _redact_urls(match: re.Match[str]) -> str:
    """Redact the URLs in a run of signs without blanks; what stands before its last at sign may be a password."""
    word, done, parts = match[0], 0, list[str]()
    last_at = word.rfind("@")
    while scheme := _SCHEME.search(word, done):
        end = _END.search(word, max(scheme.end(), last_at + 1))
        until = end.start() if end else len(word)
        parts += word[done : scheme.end()], _redact_rest(word[scheme.end() : until])
        done = until
    return "".join([*parts, word[done:]])


def _redact_rest(rest: str) -> str:
    head, mark, query = _split_query(rest)
    if "@" in query:
        # Either a password with a question mark in it, or a query with an at sign: there is no telling, so all goes.
        return "***"
    user, at, address = head.rpartition("@")
    address = "/".join(map(_without_token, address.split("/")))
    return ("***@" if at and user else "") + address + (f"{mark}***" if query else mark)


def _without_token(segment: str) -> str:
    """Return a part of a path without the letters and digits that it ends with, if they are many and mixed."""
    before = segment.rstrip(_TOKEN_SIGNS)
    token = segment[len(before) :]
    mixed = any(sign.isdigit() for sign in token) and any(sign.isalpha() for sign in token)
    return f"{before}***" if mixed and len(token) >= _TOKEN_LENGTH else segment


def _split_query(rest: str) -> tuple[str, str, str]:
    """Split at the first question mark or hash."""
    found = _QUERY.search(rest)
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
