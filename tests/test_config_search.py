"""Where the configuration is looked for, and where things are when it does not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from seamless.config import default_data_dir, default_socket, find_config
from seamless.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; the working directory is another empty folder."""
    for variable in ("SEAMLESS_CONFIG", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    return home


def test_the_nearer_place_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_user = home / ".config" / "seamless" / "config.toml"
    of_user.parent.mkdir(parents=True)
    of_user.touch()
    assert find_config(None) == of_user
    here = Path("seamless.toml").absolute()
    here.touch()
    assert find_config(None) == here
    monkeypatch.setenv("SEAMLESS_CONFIG", str(home / "other.toml"))
    assert find_config(None) == home / "other.toml", "what is named is meant, even if it is missing"
    assert find_config(Path("named.toml")) == Path("named.toml").absolute()


@pytest.mark.skipif(Path("/etc/seamless/config.toml").exists(), reason="this host has a configuration")
def test_an_error_names_every_place_that_was_searched(home: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_config(None)
    for place in (
        "--config",
        "$SEAMLESS_CONFIG",
        str(Path("seamless.toml").absolute()),
        str(home / ".config/seamless/config.toml"),
        "/etc/seamless/config.toml",
    ):
        assert place in caught.value.message
    assert caught.value.hint


def test_the_defaults_follow_the_xdg_rules(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_data_dir() == home / ".local/share/seamless"
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/ignored")
    assert default_data_dir() == home / ".local/share/seamless"
    monkeypatch.setenv("XDG_DATA_HOME", "/srv/data")
    assert default_data_dir() == Path("/srv/data/seamless")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_socket() == Path("/run/user/1000/seamless/agent.sock")
