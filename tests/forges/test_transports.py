"""Fetching over what people really use, from servers that ask for passwords, redirect, refuse and stall."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from seamless.errors import SeamlessError
from seamless.forges import Credentials, RemoteProblem, RemoteUnavailableError, Repository
from seamless.forges.git import GitForge

from .origins import Origin
from .servers import SshServer, WebServer, free_port, git_daemon, silent_server, web_server

TOKEN = "ghp_s3cr3t"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    with web_server(tmp_path) as server:
        yield server


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[WebServer]:
    with web_server(tmp_path) as server:
        yield server


@pytest.fixture
def commit(origin: Origin) -> str:
    return origin.commit({"a": "1"})


def get(forge: GitForge, repository: Repository, commit: str) -> None:
    """What a run does with a remote."""

    async def main() -> None:
        resolved = await forge.resolve(repository, "main")
        assert resolved.commit == commit
        await forge.fetch(repository, commit, resolved.ref)
        assert (await forge.info(repository, commit)).commit == commit

    asyncio.run(main())


def problem(forge: GitForge, repository: Repository) -> tuple[RemoteProblem, str]:
    """How using the remote fails."""
    with pytest.raises(RemoteUnavailableError) as error:
        asyncio.run(forge.resolve(repository, "main"))
    assert error.value.hint
    assert TOKEN not in f"{error.value.message} {error.value.hint}"
    return error.value.problem, error.value.message


def everything_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_paths_and_file_urls(origin: Origin, forge: GitForge, commit: str) -> None:
    get(forge, Repository(str(origin.path)), commit)
    get(forge, Repository(f"file://{origin.path}"), commit)
    get(forge, Repository(f"{origin.path}/.git"), commit)


def test_a_local_repository_of_another_user(origin: Origin, forge: GitForge, commit: str) -> None:
    """Only root can make one, so only root can fail here."""
    with contextlib.suppress(PermissionError):
        subprocess.run(["chown", "-R", "12345:12345", str(origin.path)], check=False, capture_output=True)
    get(forge, Repository(origin.url), commit)


def test_git_daemon(origin: Origin, forge: GitForge, commit: str, tmp_path: Path) -> None:
    with git_daemon(tmp_path) as url:
        get(forge, Repository(f"{url}/origin"), commit)
        kind, _ = problem(forge, Repository(f"{url}/nothing"))
        assert kind is RemoteProblem.NOT_FOUND


def test_http_without_and_with_a_password(web: WebServer, forge: GitForge, commit: str, tmp_path: Path) -> None:
    get(forge, Repository(f"{web.url}/origin/.git", Credentials(token=TOKEN)), commit)
    assert {authorization for _, authorization in web.seen} == {None}  # it was not asked for
    web.password = TOKEN
    spool = tmp_path / "spool"
    forge = GitForge(tmp_path / "data" / "again")
    get(forge, Repository(f"{web.url}/origin/.git", Credentials(username="bot", token=TOKEN)), commit)
    asyncio.run(
        GitForge(tmp_path / "data" / "url").fetch(
            Repository(f"http://bot:{TOKEN}@127.0.0.1:{web.server_port}/origin/.git"), commit, "refs/heads/main", spool
        )
    )
    assert TOKEN.encode() not in everything_below(tmp_path / "data") + spool.read_bytes()


def test_wrong_or_no_password(web: WebServer, forge: GitForge, commit: str) -> None:
    web.password = "another"
    for credentials in (Credentials(), Credentials(username="bot", token=TOKEN)):
        kind, message = problem(forge, Repository(f"{web.url}/origin/.git", credentials))
        assert kind is RemoteProblem.REFUSED
        assert message.startswith(f"cannot use {web.url}/origin/.git: it refuses access (git: fatal: ")
    kind, message = problem(forge, Repository(f"http://bot:{TOKEN}@127.0.0.1:{web.server_port}/origin/.git"))
    assert kind is RemoteProblem.REFUSED
    assert "@" not in message


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (403, RemoteProblem.REFUSED),
        (404, RemoteProblem.NOT_FOUND),
        (429, RemoteProblem.UNREACHABLE),
        (503, RemoteProblem.UNREACHABLE),
    ],
)
def test_what_a_server_answers(web: WebServer, forge: GitForge, status: int, expected: RemoteProblem) -> None:
    web.status = status
    kind, message = problem(forge, Repository(f"{web.url}/origin/.git"))
    assert kind is expected
    assert message.startswith(f"cannot use {web.url}/origin/.git: ")


def test_a_redirect_on_the_same_server_is_followed(web: WebServer, forge: GitForge, commit: str) -> None:
    web.password = TOKEN
    web.redirect = f"{web.url}/moved"
    get(forge, Repository(f"{web.url}/origin/.git", Credentials(username="bot", token=TOKEN)), commit)


def test_a_redirect_elsewhere_takes_no_password_along(
    web: WebServer, elsewhere: WebServer, forge: GitForge, commit: str
) -> None:
    repository = Repository(f"{web.url}/origin/.git", Credentials(username="bot", token=TOKEN))
    web.redirect = elsewhere.url
    get(forge, repository, commit)  # the other server does not ask
    web.password = elsewhere.password = TOKEN
    kind, _ = problem(forge, repository)
    assert kind is RemoteProblem.REFUSED
    web.redirects_after_login = True
    elsewhere.password = None
    problem(forge, repository)  # git does not follow with what it came to post
    assert any(authorization for _, authorization in web.seen)
    assert len(elsewhere.seen) > 3
    assert {authorization for _, authorization in elsewhere.seen} == {None}


def test_a_server_that_resets_in_the_middle_of_a_pack_leaves_nothing_wrong(
    web: WebServer, forge: GitForge, origin: Origin
) -> None:
    commit = origin.commit({"noise": secrets.token_hex(100_000)})
    repository = Repository(f"{web.url}/origin/.git")
    for cut_after in (0, 3, 200, 50_000):
        web.cut_after = cut_after
        with pytest.raises(RemoteUnavailableError) as error:
            asyncio.run(forge.fetch(repository, commit, "refs/heads/main"))
        assert error.value.problem is RemoteProblem.UNREACHABLE, error.value.message
    web.cut_after = None
    get(forge, repository, commit)


def test_a_server_that_lies_about_its_refs_is_not_believed(
    web: WebServer, forge: GitForge, origin: Origin, commit: str
) -> None:
    """It advertises a commit that it does not have: what would be built is not what was named, so nothing is."""
    repository = Repository(f"{web.url}/origin/.git")
    invented = "1234567890" * 4
    web.meddle = lambda _, content: content.replace(commit.encode(), invented.encode())
    assert asyncio.run(forge.heads(repository, ["refs/heads/main"])) == {"refs/heads/main": invented}
    with pytest.raises(SeamlessError, match="1234567"):
        asyncio.run(forge.fetch(repository, invented, "refs/heads/main"))
    web.meddle = lambda _, content: content
    get(forge, repository, commit)


def test_a_pack_that_was_changed_on_its_way_is_refused(web: WebServer, forge: GitForge, commit: str) -> None:
    repository = Repository(f"{web.url}/origin/.git")

    def flip(path: str, content: bytes) -> bytes:
        at = content.find(b"PACK") + 20
        return content if at < 20 else content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]

    web.meddle = flip
    with pytest.raises(SeamlessError):
        asyncio.run(forge.fetch(repository, commit, "refs/heads/main"))
    web.meddle = lambda _, content: content
    get(forge, repository, commit)


def test_nobody_there(forge: GitForge, tmp_path: Path) -> None:
    closed = f"127.0.0.1:{free_port()}"
    for url in (f"http://{closed}/x", f"git://{closed}/x", f"ssh://{closed}/x", "https://nowhere.invalid/x"):
        kind, message = problem(forge, Repository(url))
        assert kind is RemoteProblem.UNREACHABLE, message
        assert url in message
    for url in (str(tmp_path / "nothing"), f"file://{tmp_path}/nothing"):
        kind, message = problem(forge, Repository(url))
        assert kind is RemoteProblem.NOT_FOUND, message


@pytest.mark.parametrize("scheme", ["http", "git", "ssh"])
def test_a_server_that_stalls_is_given_up(scheme: str, tmp_path: Path) -> None:
    forge = GitForge(tmp_path / "mirrors", low_speed_s=1, timeout_s=150)
    with silent_server() as server:
        started = time.monotonic()
        kind, message = problem(forge, Repository(f"{scheme}://127.0.0.1:{server.port}/x"))
        assert kind is RemoteProblem.STALLED, message
        assert time.monotonic() - started < 60
        assert server.left.wait(60)  # no program of ours is connected any more


def test_a_fetch_that_stalls_half_way_is_given_up(tmp_path: Path) -> None:
    forge = GitForge(tmp_path / "mirrors", low_speed_s=1, timeout_s=60)
    half = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n001e# service=git-up"
    with silent_server(half) as server:
        repository = Repository(f"http://127.0.0.1:{server.port}/x")
        with pytest.raises(RemoteUnavailableError) as error:
            asyncio.run(forge.fetch(repository, "1" * 40, "refs/heads/main", tmp_path / "spool"))
        assert error.value.problem is RemoteProblem.STALLED
        assert server.left.wait(60)


def test_the_deadline_ends_what_does_not_stall(tmp_path: Path) -> None:
    forge = GitForge(tmp_path / "mirrors", low_speed_s=30, timeout_s=0.5)
    with silent_server() as server:
        kind, message = problem(forge, Repository(f"git://127.0.0.1:{server.port}/x"))
        assert kind is RemoteProblem.STALLED
        assert "was not done after 0.5 s" in message


def arguments_of(process: Path) -> bytes:
    """Nothing of one that has ended meanwhile."""
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_bytes()
    return b""


def test_cancelling_kills_git_and_no_program_ever_shows_the_password(tmp_path: Path) -> None:
    forge = GitForge(tmp_path / "mirrors")

    async def main() -> bytes:
        with silent_server() as server:
            repository = Repository(f"http://bot:{TOKEN}@127.0.0.1:{server.port}/x", Credentials(token=TOKEN))
            task = asyncio.create_task(forge.fetch(repository, "1" * 40, "refs/heads/main"))
            assert await asyncio.to_thread(server.connected.wait, 10)
            shown = b"".join(map(arguments_of, Path("/proc").glob("[0-9]*")))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.left.wait, 5)
            return shown

    shown = asyncio.run(main())
    assert b"credential.http://127.0.0.1" in shown
    assert TOKEN.encode() not in shown


def test_https_is_checked_against_the_bundle(
    web: WebServer, forge: GitForge, origin: Origin, commit: str, tmp_path: Path
) -> None:
    bundle, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(bundle)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle, key)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    repository = Repository(f"https://127.0.0.1:{web.server_port}/origin/.git")
    kind, message = problem(forge, repository)
    assert kind is RemoteProblem.REFUSED
    assert "certificate is not trusted" in message
    get(GitForge(tmp_path / "mirrors", ca_bundle=bundle), repository, commit)


@pytest.fixture
def ssh(tmp_path: Path) -> SshServer:
    (tmp_path / "ssh server").mkdir()
    return SshServer(tmp_path / "ssh server")


def test_ssh_with_a_key_and_a_known_host(ssh: SshServer, forge: GitForge, origin: Origin, commit: str) -> None:
    url = f"{ssh.url}{origin.path}"
    good = Credentials(key_file=ssh.key, known_hosts=ssh.known_hosts("host"))
    stranger = replace(good, key_file=ssh.folder / "stranger")
    elsewhere = replace(good, known_hosts=ssh.known_hosts("other_host"))
    with ssh.serving():
        get(forge, Repository(url, good), commit)
        kind, message = problem(forge, Repository(url, stranger))
        assert kind is RemoteProblem.REFUSED
        assert "Permission denied" in message
        kind, message = problem(forge, Repository(url, elsewhere))
        assert kind is RemoteProblem.REFUSED
        assert "the host shows a key that is not the one known" in message
        kind, message = problem(forge, Repository(f"{ssh.url}/nothing", good))
        assert kind is RemoteProblem.NOT_FOUND, message


def test_a_host_is_believed_once_and_held_to_its_key(
    ssh: SshServer, forge: GitForge, origin: Origin, commit: str, tmp_path: Path
) -> None:
    repository = Repository(f"{ssh.url}{origin.path}", Credentials(key_file=ssh.key))
    with ssh.serving():
        get(forge, repository, commit)
    assert f"[127.0.0.1]:{ssh.port} " in (tmp_path / "data" / "mirrors" / "known_hosts").read_text()
    with ssh.serving("other_host"):
        kind, _ = problem(forge, repository)
        assert kind is RemoteProblem.REFUSED
