"""What a person types about a camera or a server, checked. Each problem is the key of a translated error.

What reads files blocks: call it in an executor.
"""

from collections.abc import Collection, Iterable, Mapping
import hashlib
from pathlib import Path
import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .const import (
    CONF_CAMERA_ENTITY,
    CONF_FILE_PATH,
    CONF_SOURCE,
    CONF_STREAM_URL,
    SOURCE_ENTITY,
    SOURCE_FILE,
    SOURCE_STREAM,
)

SERVER_SCHEMES = frozenset({"http", "https"})
STREAM_SCHEMES = SERVER_SCHEMES | {"rtsp", "rtsps", "rtmp", "rtmps"}
LOCATION_FIELDS = {SOURCE_ENTITY: CONF_CAMERA_ENTITY, SOURCE_STREAM: CONF_STREAM_URL, SOURCE_FILE: CONF_FILE_PATH}
"""Where a source of each kind says which camera it is."""

HIDDEN = "********"
"""Stands for a secret that is kept but not shown again."""
_SECRET_NAME = re.compile(r"pass|pwd|token|key|secret|auth|sig|session", re.IGNORECASE)


def url_problem(url: str, schemes: Collection[str]) -> str | None:
    """Return what is wrong with a URL that must have one of these schemes and a host."""
    if not url.isprintable() or " " in url:
        return "invalid_url"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "invalid_url"
    if parts.scheme not in schemes:
        return "invalid_scheme"
    return None if parts.hostname else "invalid_url"


def hide_secrets(url: str) -> str:
    """Return the URL with its password, and what looks like one in its query, replaced by HIDDEN."""
    parts = urlsplit(url)
    user, password, host = _authority(parts)
    pairs = [
        f"{name}={HIDDEN}" if value and _SECRET_NAME.search(name) else pair
        for pair, name, value in _query_pairs(parts.query)
    ]
    return _join(parts, user, HIDDEN if password else "", host, pairs)


def restore_secrets(url: str, kept: str) -> str:
    """Put the secrets of the kept URL where a typed one says HIDDEN."""
    if HIDDEN not in url:
        return url
    try:
        parts, kept_parts = urlsplit(url), urlsplit(kept)
    except ValueError:  # `url_problem` says so
        return url
    user, password, host = _authority(parts)
    if password == HIDDEN:
        password = _authority(kept_parts)[1] or HIDDEN
    kept_values = {name: pair for pair, name, _ in _query_pairs(kept_parts.query)}
    pairs = [
        kept_values.get(name, pair) if value == HIDDEN else pair for pair, name, value in _query_pairs(parts.query)
    ]
    return _join(parts, user, password, host, pairs)


def camera_identity(settings: Mapping[str, Any]) -> str:
    """Return the same for the same source. A hash, as a URL may hold more secrets than we recognise."""
    source = settings[CONF_SOURCE]
    location = settings[LOCATION_FIELDS[source]]
    identity = stream_identity(location) if source == SOURCE_STREAM else location
    return hashlib.sha256(f"{source} {identity}".encode()).hexdigest()[:32]


def stream_identity(url: str) -> str:
    """Return what tells one stream from another: neither its scheme's spelling nor its secrets do."""
    parts = urlsplit(hide_secrets(url))
    host = _authority(parts)[2].lower()
    return f"{parts.scheme}://{host}{parts.path}?{parts.query}"


def file_problem(path: str) -> str | None:
    """Return why a video file cannot be read."""
    file = Path(path)
    if not file.is_absolute():
        return "path_not_absolute"
    try:
        if not file.is_file():
            return "not_a_file" if file.exists() else "file_not_found"
        with file.open("rb"):
            return None
    except OSError:
        return "file_unreadable"


def server_urls(typed: Iterable[str], kept: Iterable[str]) -> tuple[list[str], str | None]:
    """Return typed addresses of servers with the secrets of those that are kept, and what is wrong with one of them."""
    known = {hide_secrets(url): url for url in kept}
    urls = list(dict.fromkeys(known.get(url, url) for url in map(str.strip, typed) if url))
    for url in urls:
        if problem := url_problem(url, SERVER_SCHEMES):
            return urls, "invalid_server_url" if problem == "invalid_scheme" else problem
        if HIDDEN in url:
            return urls, "secret_hidden"
    return urls, None


def _authority(parts: SplitResult) -> tuple[str, str, str]:
    """Split the network location into user, password, and host with port."""
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    return user, password, host


def _query_pairs(query: str) -> list[tuple[str, str, str]]:
    """Return each pair of the query as it is written, its name and its value."""
    pairs = []
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        pairs.append((pair, name, value))
    return pairs


def _join(parts: SplitResult, user: str, password: str, host: str, pairs: Collection[str]) -> str:
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    return parts._replace(netloc=f"{login}{host}", query="&".join(pairs)).geturl()
