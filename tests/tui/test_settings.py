"""What lasts in tui.toml, and what is said of what cannot be used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cli.fake_agent import FakeAgent
from seamless.errors import ConfigError
from seamless.tui.app import SeamlessApp
from seamless.tui.keymap import checked
from seamless.tui.settings import Settings

from .screens import in_front_of
from .ways import to_failed_run

pytestmark = pytest.mark.fake


def test_settings_last(shop: FakeAgent, tmp_path: Path) -> None:
    file = tmp_path / "tui.toml"
    file.write_text('# mine\n[keys]\nhold = "ctrl+o"\nfilter = "f5"\n')

    async def main() -> None:
        async with in_front_of(shop, settings=Settings.load(file)) as user:
            await user.press("ctrl+o")
            await user.sees("Put gateway on hold?")
            await user.press("escape", "f5", "g", "f5", "a", "enter")
            await user.sees('"ga" 1 of 5')
            await user.press("enter")
            await user.sees("[runs]", "gateway")
            await user.press("escape")
            user.app.theme = "nord"
            await user.press("j")

    asyncio.run(main())
    assert Settings.load(file).theme == "nord"
    assert file.read_text().startswith("# mine\n")


def test_what_cannot_be_used_of_the_settings_is_told_once_by_name(shop: FakeAgent, tmp_path: Path) -> None:
    file = tmp_path / "tui.toml"
    file.write_text('theme = "nrod"\nmouse = 3\nwarp = true\n[keys]\nhlod = "ctrl+o"\nlog_wrap = "ctrl+w"\n')
    settings = Settings.load(file)
    assert settings.mouse

    async def main() -> None:
        async with in_front_of(shop, (100, 30), settings=settings) as user:
            await user.sees(
                "there is no theme 'nrod'; did you mean nord?",
                "mouse cannot be 3",
                "warp: no such setting; did you mean wrap?",
                "[keys] hlod: no such action; did you mean load or hold?",
            )
            await to_failed_run(user)
            await user.press("ctrl+w")
            await user.sees("long lines are wrapped")

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["folder", "text", "bytes"])
def test_settings_that_cannot_be_read_are_told(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "tui.toml"
    if kind == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"theme =" if kind == "text" else b"\xff")
    settings = Settings.load(file)
    assert len(settings.problems) == 1
    assert "cannot be used, and the defaults are in force" in settings.problems[0]
    with pytest.raises(ConfigError, match="cannot be written, so this lasts until you quit"):
        settings.keep(theme="nord")
    assert Settings.load(tmp_path / "none.toml").problems == []


def test_a_link_to_the_settings_stays_one(tmp_path: Path) -> None:
    (tmp_path / "kept.toml").write_text("wrap = true  # mine\n")
    (tmp_path / "tui.toml").symlink_to("kept.toml")
    Settings.load(tmp_path / "tui.toml").keep(theme="nord")
    assert (tmp_path / "tui.toml").is_symlink()
    assert (tmp_path / "kept.toml").read_text() == 'wrap = true  # mine\ntheme = "nord"\n'


@pytest.mark.parametrize(
    ("written", "keymap", "told"),
    [
        ({"log_wrap": "ctrl+w,W", "help": "?, f1"}, {"log_wrap": "ctrl+w,W", "help": "?, f1"}, []),
        ({"log_wrap": "n", "log_next": "w"}, {"log_wrap": "n", "log_next": "w"}, []),  # exchanged
        ({"log_wrp": "w"}, {}, ["log_wrp: no such action; did you mean log_wrap or"]),
        ({"zzz": "w"}, {}, ["zzz: no such action"]),
        ({"hold": 3}, {}, ["hold: its keys are text, not 3"]),
        ({"hold": ""}, {}, ["hold: '' is no key"]),
        ({"hold": "o+ctrl"}, {}, ["hold: 'o+ctrl' is no key"]),
        ({"hold": "f5,Ctrl+O"}, {}, ["hold: 'Ctrl+O' is no key; did you mean ctrl+o?"]),
        ({"log_wrap": "n"}, {}, ["log_wrap: n is the key of log_next already"]),
        ({"log_wrap": "?"}, {}, ["log_wrap: ? is the key of help already"]),  # of the whole program
        ({"log_wrap": "x"}, {}, ["log_wrap: x is the key of reject already"]),  # of the screen around the log
        ({"hold": "ctrl+o", "release": "ctrl+o"}, {"hold": "ctrl+o"}, ["release: ctrl+o is the key of hold already"]),
        ({"log_wrap": "o"}, {"log_wrap": "o"}, []),  # sorts lists, where there is no log
    ],
)
def test_keys_that_can_be_given_to_actions(written: dict[str, object], keymap: dict[str, str], told: list[str]) -> None:
    found, problems = checked(written, SeamlessApp)
    assert found == keymap
    assert len(problems) == len(told)
    for problem, beginning in zip(problems, told, strict=True):
        assert problem.startswith(beginning)
