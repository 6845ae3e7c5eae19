"""Which URL is a repository of which GitHub."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless.github_names import repository_name, web_location

PUBLIC = "https://api.github.com"
ENTERPRISE = "https://ghe.acme.example/api/v3"


@pytest.mark.parametrize(
    ("url", "api", "name"),
    [
        ("https://github.com/acme/payment", PUBLIC, "acme/payment"),
        ("https://github.com/acme/payment.git", PUBLIC, "acme/payment"),
        ("https://GitHub.com/acme/pay.ment/", PUBLIC, "acme/pay.ment"),
        ("git@github.com:acme/payment.git", PUBLIC, "acme/payment"),
        ("ssh://git@github.com/acme/payment.git", PUBLIC, "acme/payment"),
        ("ssh://git@github.com:22/acme/payment", PUBLIC, "acme/payment"),
        ("https://ghe.acme.example/acme/payment", ENTERPRISE, "acme/payment"),
        ("git@ghe.acme.example:acme/payment", ENTERPRISE, "acme/payment"),
        ("http://127.0.0.1:4711/acme/payment.git", "http://127.0.0.1:4711/api/v3", "acme/payment"),
        ("https://acme.ghe.com/acme/payment", "https://api.acme.ghe.com", "acme/payment"),
        ("http://github.com/acme/payment", PUBLIC, None),  # the token would go over the wire in the open
        ("https://github.com:8443/acme/payment", PUBLIC, None),
        ("https://github.com.evil.example/acme/payment", PUBLIC, None),
        ("https://ghe.acme.example/acme/payment", PUBLIC, None),
        ("https://github.com/acme/payment", ENTERPRISE, None),
        ("https://github.com/acme", PUBLIC, None),
        ("https://github.com/acme/payment/tree/main", PUBLIC, None),
        ("https://github.com/acme/..", PUBLIC, None),
        ("https://github.com/acme/a%2fb", PUBLIC, None),
        ("git://github.com/acme/payment", PUBLIC, None),
        ("file:///github.com/acme/payment", PUBLIC, None),
        ("/github.com/acme/payment", PUBLIC, None),
        ("https://[/acme/payment", PUBLIC, None),
    ],
)
def test_a_url_names_a_repository_of_that_github_or_none(url: str, api: str, name: str | None) -> None:
    assert repository_name(url, api) == name


@given(st.text(max_size=80))
def test_whatever_is_written_gives_a_name_of_two_parts_or_none(text: str) -> None:
    for url in (text, f"https://github.com/{text}", f"git@github.com:{text}"):
        name = repository_name(url, PUBLIC)
        assert name is None or (name.count("/") == 1 and name.isascii() and ".." not in name.split("/"))


def test_where_the_repositories_of_an_api_are() -> None:
    assert [web_location(url) for url in (PUBLIC, ENTERPRISE)] == ["github.com", "ghe.acme.example"]
