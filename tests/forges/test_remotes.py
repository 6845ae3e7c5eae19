"""What git must not see is refused before git sees it, and no message holds a password."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamless.errors import UsageError
from seamless.forges import Credentials, Repository, git_commands
from seamless.forges.git_commands import NetworkCommands
from seamless.forges.remotes import Transport, check_commit, check_pattern, check_ref, parse, printable

TOKEN = "ghp_s3cr3t"


@pytest.mark.parametrize(
    ("url", "transport", "address"),
    [
        ("https://git.example.org/shop/cart.git", Transport.HTTP, "https://git.example.org/shop/cart.git"),
        ("https://git.example.org:8443/cart", Transport.HTTP, "https://git.example.org:8443/cart"),
        (f"https://bob:{TOKEN}@git.example.org/cart", Transport.HTTP, "https://git.example.org/cart"),
        (f"https://{TOKEN}@git.example.org/a@b", Transport.HTTP, "https://git.example.org/a@b"),
        ("http://[::1]:8080/cart", Transport.HTTP, "http://[::1]:8080/cart"),
        (f"ssh://git:{TOKEN}@git.example.org:2222/cart", Transport.SSH, "ssh://git@git.example.org:2222/cart"),
        ("git@git.example.org:shop/cart.git", Transport.SSH, "git@git.example.org:shop/cart.git"),
        ("build-host:cart", Transport.SSH, "build-host:cart"),
        (f"git://{TOKEN}@git.example.org/cart", Transport.GIT, "git://git.example.org/cart"),
        ("file:///srv/git/cart.git", Transport.LOCAL, "file:///srv/git/cart.git"),
        ("/srv/git/my cart.git", Transport.LOCAL, "/srv/git/my cart.git"),
    ],
)
def test_addresses_people_write(url: str, transport: Transport, address: str) -> None:
    remote = parse(Repository(url))
    assert (remote.transport, remote.address) == (transport, address)
    assert TOKEN not in repr(remote)
    assert TOKEN not in repr(Repository(url, Credentials(token=TOKEN)))
    assert TOKEN not in str(Repository(url))


@pytest.mark.parametrize(
    "url",
    [
        "",
        " https://git.example.org/x",
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x:y",
        "ext::sh -c date",
        "fd::17",
        "ftp://git.example.org/x",
        "git+ssh://git.example.org/x",
        "https:///x",
        "https://-oProxyCommand=x/y",
        "ssh://-oProxyCommand=x/y",
        "ssh://-l@host/y",
        "host:-x",
        "https://git.example.org:port/x",
        "https://git.example.org/x\nhttps://other",
        "https://git.example.org/x\0",
        "relative/path",
        "../up",
        "file://host/srv/git",
        "https://git.example.org/" + "x" * 1000,
        "/srv/\ud800",
    ],
)
def test_addresses_that_git_must_not_see(url: str) -> None:
    with pytest.raises(UsageError, match="is not a repository"):
        parse(Repository(url))


@pytest.mark.parametrize(
    "url",
    [
        f"https://bob:{TOKEN}@git.example.org:port/x",
        f"https://bob:pa/{TOKEN}@git.example.org/x",
        f"https://bob:{TOKEN}@/x",
        f"ftp://bob:{TOKEN}@git.example.org/x",
        f"https://bob:\n{TOKEN}@git.example.org/x",
    ],
)
def test_a_refusal_keeps_the_password_to_itself(url: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(Repository(url))
    assert TOKEN not in refusal.value.message + str(refusal.value.hint)


@pytest.mark.parametrize(
    ("url", "credentials", "expected"),
    [
        ("https://h/x", Credentials(), (None, None)),
        ("https://h/x", Credentials(token="t"), ("git", "t")),
        ("https://h/x", Credentials(username="bot", token="t"), ("bot", "t")),
        ("https://me@h/x", Credentials(token="t"), ("me", "t")),
        ("https://me:p%40ss@h/x", Credentials(), ("me", "p@ss")),
        ("https://me:pass@h/x", Credentials(token="t"), ("me", "t")),
        ("https://token@h/x", Credentials(), ("token", "")),
        ("ssh://me@h/x", Credentials(token="t"), (None, None)),
    ],
)
def test_whose_password_is_used(url: str, credentials: Credentials, expected: tuple[str | None, str | None]) -> None:
    remote = parse(Repository(url, credentials))
    assert (remote.username, remote.password) == expected


def test_a_token_with_a_newline_is_refused_without_showing_it() -> None:
    with pytest.raises(UsageError, match="control characters") as refusal:
        parse(Repository("https://h/x", Credentials(token=TOKEN + "\n")))
    assert TOKEN not in str(refusal.value)


def test_the_mirror_is_the_same_for_all_credentials_but_not_for_all_repositories() -> None:
    plain = parse(Repository("https://h/x"))
    assert plain.key == parse(Repository("https://a:b@h/x", Credentials(token="t"))).key
    assert plain.key != parse(Repository("https://h/y")).key


REFS = st.text(st.sampled_from("ab1-./@{~^:?*[\\ \x7f\tä;$()'\"#%lock"), max_size=12) | st.text(max_size=8)


@settings(max_examples=150, deadline=None)
@given(REFS | st.builds("{}.lock{}".format, REFS, REFS) | st.builds("{}/{}".format, REFS, REFS))
def test_refs_are_taken_exactly_when_git_takes_them(ref: str) -> None:
    try:
        check_ref(ref)
        taken = True
    except UsageError:
        taken = False
    # `--branch` refuses a leading dash as well, but takes `@` and `-` as shorthands for other branches.
    if ref == "@" or ref.startswith("-") or "\0" in ref:
        assert not taken
        return
    command = ["git", "check-ref-format", "--allow-onelevel", ref]
    assert taken == (subprocess.run(command, check=False).returncode == 0)


@pytest.mark.parametrize(
    "ref", ["main", "a;id", "a$(id)", "feature/größe", "refs/pull/17/head", "v1.0", "x" * 255, "HEAD"]
)
def test_refs_that_are_good_names(ref: str) -> None:
    check_ref(ref)


@pytest.mark.parametrize(
    "ref", ["--upload-pack=x", "-", "", "a..b", "a\nb", "a\0b", "main:x", "a" * 1001, "\ud800", "main^{}"]
)
def test_refs_that_are_refused(ref: str) -> None:
    with pytest.raises(UsageError, match="is not a name that git takes"):
        check_ref(ref)


def test_patterns_and_commits() -> None:
    check_pattern("refs/heads/*")
    check_commit("a" * 40)
    check_commit("a" * 64)
    for pattern in ("", "--exec=x", "a\nb"):
        with pytest.raises(UsageError):
            check_pattern(pattern)
    for commit in ("main", "a" * 39, "A" * 40, "-" + "a" * 39, "a" * 40 + "\n"):
        with pytest.raises(UsageError):
            check_commit(commit)


@given(st.text())
def test_messages_stay_one_printable_line(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) <= 201


def test_a_password_is_in_the_environment_only_and_only_for_its_origin(tmp_path: Path) -> None:
    remote = parse(Repository(f"https://bob:{TOKEN}@h:8443/x"))
    plan = NetworkCommands(tmp_path, 30).fetch(remote, tmp_path / "m.git", ["+refs/heads/*:refs/x/*"])
    assert TOKEN not in " ".join(plan.argv)
    assert TOKEN not in repr(plan)
    assert plan.env["SEAMLESS_GIT_PASSWORD"] == TOKEN
    assert any(word.startswith("credential.https://h:8443.helper=") for word in plan.argv)
    ssh = NetworkCommands(tmp_path, 30).list_refs(parse(Repository("git@h:x", Credentials(token=TOKEN))))
    assert TOKEN not in f"{ssh.argv} {dict(ssh.env)}"


def test_git_sees_nothing_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_CONFIG_PARAMETERS", "GIT_SSH_COMMAND", "GIT_TRACE", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of the host")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    commands = NetworkCommands(tmp_path, 30)
    web = commands.list_refs(parse(Repository("https://h/x")))
    local = git_commands.local(tmp_path, "cat-file")
    ssh = commands.list_refs(parse(Repository("git@h:x")))
    assert "of the host" not in f"{dict(web.env)} {dict(local.env)} {dict(ssh.env)}"
    assert web.env["https_proxy"] == "http://proxy:3128"
    assert "https_proxy" not in local.env


@pytest.mark.parametrize(
    ("patterns", "kinds"),
    [
        (["refs/heads/main", "refs/heads/x/*"], ["--heads"]),
        (["refs/tags/*"], ["--tags"]),
        (["refs/heads/main", "refs/tags/*"], ["--heads", "--tags"]),
        (["refs/heads/main", "refs/pull/*"], []),
        (["main"], []),
        ([], []),
    ],
)
def test_a_listing_asks_for_no_more_than_it_needs(tmp_path: Path, patterns: list[str], kinds: list[str]) -> None:
    plan = NetworkCommands(tmp_path, 30).list_refs(parse(Repository("https://h/x")), patterns)
    assert [word for word in plan.argv if word in ("--heads", "--tags")] == kinds
    assert list(plan.argv[-len(patterns) - 2 :]) == ["--", "https://h/x", *patterns]
