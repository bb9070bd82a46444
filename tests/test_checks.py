"""What people type, checked."""

from urllib.parse import quote

from hypothesis import given, strategies as st

from custom_components.nemotron_security.checks import (
    HIDDEN,
    STREAM_SCHEMES,
    hide_secrets,
    restore_secrets,
    server_urls,
    stream_identity,
    url_problem,
)

WORDS = st.text(min_size=1, max_size=12).map(lambda text: quote(text, safe=""))
NAMES = st.sampled_from(["user", "channel", "password", "token", "api_key", "Signature"])


@st.composite
def stream_urls(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Return a stream's URL and the secrets in it."""
    password = draw(st.none() | WORDS)
    query = draw(st.lists(st.tuples(NAMES, WORDS), max_size=4, unique_by=lambda pair: pair[0]))
    login = "" if password is None else f"admin:{password}@"
    tail = "&".join(f"{name}={value}" for name, value in query)
    secrets = [value for name, value in query if name not in ("user", "channel")]
    url = f"{draw(st.sampled_from(sorted(STREAM_SCHEMES)))}://{login}10.0.0.7:554/ch1{f'?{tail}' if tail else ''}"
    return url, secrets + ([password] if password is not None else [])


@given(stream_urls())
def test_hidden_secrets_come_back_and_only_they_were_hidden(case: tuple[str, list[str]]) -> None:
    url, secrets = case
    assert url_problem(url, STREAM_SCHEMES) is None
    shown = hide_secrets(url)
    assert restore_secrets(shown, url) == url
    assert shown.count(HIDDEN) == len(secrets)
    assert restore_secrets(shown.replace("ch1", "ch2"), url) == url.replace("ch1", "ch2")


@given(stream_urls(), stream_urls())
def test_identity_does_not_depend_on_the_password(one: tuple[str, list[str]], other: tuple[str, list[str]]) -> None:
    assert (stream_identity(one[0]) == stream_identity(other[0])) == (
        _without_login(hide_secrets(one[0])) == _without_login(hide_secrets(other[0]))
    )


def _without_login(url: str) -> str:
    return url.replace(f"admin:{HIDDEN}@", "")


@given(st.text(max_size=40))
def test_any_text_is_answered(text: str) -> None:
    assert url_problem(text, STREAM_SCHEMES) in (None, "invalid_url", "invalid_scheme")
    urls, problem = server_urls([text], [])
    assert problem in (None, "invalid_url", "invalid_server_url", "secret_hidden")
    assert urls == ([text.strip()] if text.strip() else [])


def test_a_new_password_replaces_the_kept_one() -> None:
    kept = "rtsp://admin:old@host/1?token=abc"
    assert restore_secrets("rtsp://admin:new@host/1?token=********", kept) == "rtsp://admin:new@host/1?token=abc"
    assert restore_secrets("rtsp://host/1", kept) == "rtsp://host/1"
