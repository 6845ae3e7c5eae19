"""Configuration files as tests write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from seamless.config import Config, load_config
from seamless.errors import ConfigError


def load(folder: Path, text: str) -> Config:
    file = folder / "seamless.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


def problems(folder: Path, text: str) -> list[str]:
    """The lines of the error, without the file's name, which every line must begin with."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    prefix = f"{folder}/seamless.toml: "
    lines = caught.value.message.splitlines()
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def service(line: str) -> str:
    """A file whose only service is right but for `line`."""
    return f'[services.payment]\nrepo = "https://git.acme.example/payment"\n{line}\n'
