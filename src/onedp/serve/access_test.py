"""Tokens and the addresses that need one."""

from __future__ import annotations

import pytest

from onedp.errors import ServeError
from onedp.serve.access import is_authorized, is_loopback, read_token


def token_file(tmp_path, text, mode=0o600):
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_token_is_one_line(tmp_path):
    assert read_token(token_file(tmp_path, "0123456789abcdef\n")) == "0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("0123456789abcdef", 0o604, "Everyone on this machine can read or write the token file"),
        ("0123456789abcdef", 0o602, "chmod 600"),
        ("short", 0o600, "must be one line of at least 16 characters without spaces"),
        ("0123456789abcdef\n0123456789abcdef", 0o600, "must be one line"),
        ("0123456789 abcdef", 0o600, "without spaces"),
        ("0123456789abcdeé", 0o600, "is not readable"),
    ],
)
def test_bad_token_files_are_refused(tmp_path, text, mode, message):
    with pytest.raises(ServeError) as error:
        read_token(token_file(tmp_path, text, mode))
    assert message in str(error.value)
    assert "0123456789" not in str(error.value)


def test_a_missing_token_file_is_named(tmp_path):
    with pytest.raises(ServeError, match=r"The token file .*nowhere is not readable: .*No such file"):
        read_token(tmp_path / "nowhere")


def test_loopback_is_what_only_this_machine_reaches():
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "")] == [False] * 5


def test_the_whole_header_must_fit():
    assert is_authorized(None, None)
    assert is_authorized("Api-Key secret", "secret")
    wrong = (
        None,
        "",
        "secret",
        "Api-Key secre",
        "Api-Key secret ",
        "Bearer secret",
        "api-key secret",
        "Api-Key sécret",
    )
    assert not any(is_authorized(header, "secret") for header in wrong)
