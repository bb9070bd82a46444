"""The models that the owner of a DeepStack-like server added to it."""

from collections.abc import Iterable
import json
from typing import Any

import aiohttp

_TIMEOUT = aiohttp.ClientTimeout(total=5)
_MOST = 200
_LONGEST_NAME = 100
_LARGEST = 200_000
"""Bytes of an answer."""


async def async_custom_models(session: aiohttp.ClientSession, urls: Iterable[str], token: str) -> list[str]:
    """Return the names that the first server says which has some.

    None is no error: DeepStack itself has no such list, and whether a server works, a trial of the detector tells.

    Args:
        session: to ask with.
        urls: addresses of the servers; may hold user names and passwords.
        token: their API key, empty for none.
    """
    for url in urls:
        try:
            if names := _names(await _async_ask(session, url, token)):
                return names
        except aiohttp.ClientError, TimeoutError, ValueError, RecursionError:
            continue
    return []


async def _async_ask(session: aiohttp.ClientSession, url: str, token: str) -> bytes:
    """Return what a server answers; nothing if that is an error, or endless."""
    body = b""
    async with session.post(
        f"{url.rstrip('/')}/v1/vision/custom/list",
        data={"api_key": token} if token else {},
        timeout=_TIMEOUT,
        allow_redirects=False,
    ) as response:
        async for part in response.content.iter_any():
            body += part
            if not response.ok or len(body) > _LARGEST:
                return b""
    return body


def _names(body: bytes) -> list[str]:
    said: Any = json.loads(body or b"{}")
    models = said.get("models") if isinstance(said, dict) else None
    names = [name for name in models if isinstance(name, str)] if isinstance(models, list) else []
    return [name for name in names if name and len(name) <= _LONGEST_NAME and name.isprintable()][:_MOST]
