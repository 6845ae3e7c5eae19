"""Changes of a configuration file: only what is meant, whoever else changes it, and never half."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless.config import editing, load_config
from seamless.errors import ConfigError, NotFoundError, RefusedError, SeamlessError, UnavailableError

FILE = """\
# Ours. Ask Dana before you change it.

[pipeline]                  # for all
image = "node:20"           # LTS
unit_test = '''
npm test
'''

# the shop
[services.payment]          # money
repo = "https://example.org/payment"   # where it is
health = "/healthz"         # asked every second
limits = { memory = "1g" }  # enough

[services.payment.environments.production]
publish = 8080              # the only one
port = 3000

[access]                    # who may
admins = ["alex"]           # alone
"""


def comments(text: str) -> list[str]:
    return [line.partition("#")[2].strip() for line in text.splitlines() if "#" in line]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "seamless.toml"
    path.write_text(FILE)
    return path


def test_a_service_is_added_at_the_end_and_all_else_is_as_it_was(file: Path) -> None:
    values: dict[tuple[str | int, ...], Any] = {
        ("repo",): "./web",
        ("install",): "one\ntwo\n",
        ("build", "dockerfile"): "docker/Dockerfile",
        ("env",): {"A": 'quote " and\nline'},
    }
    new = editing.rewrite(file, editing.add_service("web", values))
    assert new == file.read_text()
    assert new.startswith(FILE)
    said = tomllib.loads(new)["services"]["web"]
    assert said == {
        "repo": "./web",
        "install": "one\ntwo\n",
        "build": {"dockerfile": "docker/Dockerfile"},
        "env": {"A": 'quote " and\nline'},
    }
    assert "install = '''\none\ntwo\n'''\n" in new
    with pytest.raises(RefusedError, match="there is a service web already"):
        editing.rewrite(file, editing.add_service("web", values))


def test_parameters_are_changed_where_they_are(file: Path) -> None:
    change = editing.change_service(
        "payment", {("health",): "/ready", ("limits", "pids"): 100, ("auto_deploy",): True}, [("limits", "memory")]
    )
    new = editing.rewrite(file, change)
    assert comments(new) == comments(FILE)
    payment = tomllib.loads(new)["services"]["payment"]
    assert (payment["health"], payment["limits"], payment["auto_deploy"]) == ("/ready", {"pids": 100}, True)
    assert 'health = "/ready"         # asked every second' in new
    changed = set(FILE.splitlines()) ^ set(new.splitlines())
    assert all(any(key in line for key in ("health", "limits", "auto_deploy")) for line in changed if line), changed


def test_a_service_is_removed_with_its_tables(file: Path) -> None:
    new = editing.rewrite(file, editing.remove_service("payment"))
    assert tomllib.loads(new) == {key: value for key, value in tomllib.loads(FILE).items() if key != "services"}
    assert {"for all", "who may", "Ours. Ask Dana before you change it."} <= set(comments(new))


@pytest.mark.parametrize(
    ("edit", "error", "said"),
    [
        (editing.change_service("web", {("port",): 1}, []), NotFoundError, "there is no service web"),
        (editing.remove_service("web"), NotFoundError, "there is no service web"),
        (editing.change_service("payment", {}, [("port",)]), NotFoundError, "services.payment does not set port"),
        (editing.change_service("payment", {("prot",): 1}, []), ConfigError, r"prot: no such parameter.*port"),
        (editing.change_service("payment", {("limits",): 3}, []), ConfigError, "limits: must be a table"),
        (editing.change_service("payment", {("health", "x"): 3}, []), RefusedError, "cannot be changed by machine"),
        (editing.change_service("payment", {}, [("repo",)]), ConfigError, "repo: is required"),
    ],
)
def test_what_cannot_be_changes_nothing(file: Path, edit: editing.Edit, error: type[SeamlessError], said: str) -> None:
    with pytest.raises(error, match=said):
        editing.rewrite(file, edit)
    assert file.read_text() == FILE
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\ufeff# with a mark of its byte order\n",
        "[pipeline]\nimage = 'x'",
        'services = { old = { repo = "./o", image = "x" } }\n',
        'services.old.repo = "./o"\nservices.old.image = "x"\n[agent]\npoll = false\n',
        '[services.old]\nrepo = "./o"\nimage = "x"\r\n[agent]\r\npoll = false # so\r\n'
        '[services.older]\r\nrepo="./o"\r\nimage="x"',
    ],
)
def test_however_the_file_is_written(tmp_path: Path, text: str) -> None:
    """Each is changed as meant, or refused and left as it is; the first of these is the rule."""
    file = tmp_path / "c.toml"
    file.write_bytes(text.encode())
    before = tomllib.loads(text.removeprefix("\ufeff"))
    add = editing.add_service("web", {("repo",): "./w", ("image",): "y"})
    if text.startswith("services = {"):
        with pytest.raises(RefusedError, match="cannot be changed by machine"):
            editing.rewrite(file, add)
        assert file.read_bytes() == text.encode()
        return
    editing.rewrite(file, add)
    assert file.read_bytes().startswith(text.encode())
    after = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    assert after.pop("services") == before.pop("services", {}) | {"web": {"repo": "./w", "image": "y"}}
    assert after == before
    if "old" in text:
        editing.rewrite(file, editing.remove_service("old"))
        assert "old" not in tomllib.loads(file.read_text(encoding="utf-8-sig"))["services"]


KEYS = st.sampled_from(["image", "health", "unit_test", "branch"])
VALUES = {
    "image": st.sampled_from(["node:20", "a/b"]),
    "health": st.sampled_from(["/", "/x"]),
    "unit_test": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    "branch": st.sampled_from(["main", "a/b"]),
}


@given(KEYS.flatmap(lambda key: st.tuples(st.just(key), VALUES[key])))
def test_any_value_is_read_as_it_was_given_and_no_comment_is_lost(change: tuple[str, str]) -> None:
    key, value = change
    new = editing.change_service("payment", {(key,): value}, [])(FILE)
    assert tomllib.loads(new)["services"]["payment"][key] == value
    assert [one for one in comments(new) if one in comments(FILE)] == comments(FILE)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda file: file.unlink(), "cannot be read: no such file"),
        (lambda file: (file.unlink(), file.mkdir()), "cannot be read: is a directory"),
        (lambda file: file.write_bytes(b"# caf\xe9\n"), "line 1: is not UTF-8"),
        (lambda file: file.write_text("[services.x]\n"), "services.x.repo: is required"),
        (lambda file: file.write_text("[services"), "end of document: expected"),
    ],
)
def test_a_file_that_is_none_is_told_and_left(file: Path, break_it: Any, said: str) -> None:
    break_it(file)
    with pytest.raises(ConfigError, match=said):
        editing.rewrite(file, editing.add_service("web", {("repo",): "./w", ("image",): "x"}))


def test_mode_and_links_stay(file: Path) -> None:
    file.chmod(0o640)
    link = file.with_name("link.toml")
    link.symlink_to(file)
    editing.rewrite(link, editing.remove_service("payment"))
    assert link.is_symlink()
    assert oct(file.stat().st_mode & 0o7777) == "0o640"
    assert "payment" not in file.read_text()


def test_what_is_saved_from_an_editor_meanwhile_is_kept(file: Path) -> None:
    """The change is made again on what was saved: by one who writes into the file, and one who replaces it."""
    saves: list[Callable[[str], object]] = [file.write_text, lambda text: replace(file, text)]
    add = editing.add_service("web", {("repo",): "./w"})

    def edit(text: str) -> str:
        if saves:
            saves.pop()(f"# saved meanwhile {len(saves)}\n{text}")
        return add(text)

    new = editing.rewrite(file, edit)
    assert new == file.read_text()
    assert new.startswith("# saved meanwhile 0\n# saved meanwhile 1\n# Ours")
    assert tomllib.loads(new)["services"]["web"] == {"repo": "./w"}


def test_what_is_no_text_and_was_saved_meanwhile_is_told_and_left(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def then_saved(path: Path) -> Any:
        config = load_config(path)
        file.write_bytes(b"# caf\xe9\n")
        return config

    monkeypatch.setattr(editing, "load_config", then_saved)
    with pytest.raises(ConfigError, match="line 1: is not UTF-8 text"):
        editing.rewrite(file, editing.add_service("web", {("repo",): "./w"}))
    assert file.read_bytes() == b"# caf\xe9\n"


def replace(file: Path, text: str) -> None:
    new = file.with_name("editor.tmp")
    new.write_text(text)
    new.rename(file)


def test_a_file_that_never_rests_is_left_alone(file: Path) -> None:
    def edit(text: str) -> str:
        file.write_text(f"{text}#\n")
        return text + "# mine\n"

    with pytest.raises(UnavailableError, match="keeps changing"):
        editing.rewrite(file, edit)
    assert "# mine" not in file.read_text()


def test_ten_at_the_same_time_lose_nothing(file: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from seamless.config import editing\n"
        "for n in range(3): editing.rewrite(Path(sys.argv[1]),"
        " editing.add_service(f's{sys.argv[2]}x{n}', {('repo',): './x'}))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, str(file), str(number)]) for number in range(4)]
    names = [f"t{number}" for number in range(6)]
    threads = [
        threading.Thread(target=lambda name=name: editing.rewrite(file, editing.add_service(name, {("repo",): "./x"})))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0] * 4
    expected = {"payment", *names, *(f"s{one}x{n}" for one in range(4) for n in range(3))}
    assert set(tomllib.loads(file.read_text())["services"]) == expected
    assert os.listdir(file.parent) == [file.name]


def test_a_disk_that_is_full_leaves_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnavailableError, match=r"cannot be changed: No space left"):
        editing.rewrite(file, editing.remove_service("payment"))
    assert file.read_text() == FILE
    assert os.listdir(file.parent) == [file.name]


def test_only_what_the_pipeline_does_not_give_is_written(file: Path) -> None:
    values: dict[tuple[str | int, ...], Any] = {
        ("repo",): "./web",
        ("image",): "node:20",
        ("unit_test",): "npm test\n",
        ("health",): "/x",
        ("build", "context"): ".",
        ("branch",): "main",
    }
    assert editing.differing(FILE, file, "web", values) == {("repo",): "./web", ("health",): "/x"}
    with pytest.raises(ConfigError, match=r"services\.web\.port: must be"):
        editing.differing(FILE, file, "web", values | {("port",): "x"})
