"""Whatever stands at whatever place of a configuration: a valid Config or a ConfigError, and nothing else."""

from __future__ import annotations

import contextlib
import copy
import json
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from seamless.config import Config, Parameters, config_from, load_config
from seamless.config.values import format_duration, format_size, parse_duration, parse_size
from seamless.errors import ConfigError
from seamless.model import Environment

EXAMPLE = tomllib.loads((Path(__file__).parent.parent / "config.example.toml").read_text(encoding="utf-8"))
FILE = Path("/nowhere/seamless.toml")

scalars = (
    st.text(max_size=20)
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.booleans()
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.sampled_from(
        ["-x", "../x", "::", "https://[", "//", "~nobody-here/x", "1s", "2g", "main", "staging", "\x1b[2J"]
    )
)
keys = st.text(max_size=10) | st.sampled_from(["env", "file", "expose", "production", "memory", "[key]", "repo"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path of the example, tables included."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def outcome(data: dict[str, Any]) -> Config | None:
    """The configuration, or None for a ConfigError that reads well."""
    try:
        return config_from(data, FILE)
    except ConfigError as error:
        for line in error.message.splitlines():
            assert line.startswith(f"{FILE}: "), line
            assert line.isprintable(), line
            assert "Input should" not in line, line
            assert "alue error" not in line, line
        return None


@settings(max_examples=400, deadline=None)
@given(place=st.sampled_from([place for place in places(EXAMPLE) if place]), value=values)
@example(place=("pipeline", "limits", "cpus"), value=10**400)
@example(place=("pipeline", "stage_timeout"), value=10**400)
@example(place=("services", "payment", "repo"), value="https://[")
@example(place=("agent", "data_dir"), value="~nobody-here/x")
@example(place=("pipeline", "files"), value={"[key]": 0})
@example(place=("environments",), value={"[key]": {}})
@example(place=("services", "payment"), value={"[key]": "payment"})
def test_any_value_at_any_place(place: tuple[Any, ...], value: Any) -> None:
    data = copy.deepcopy(EXAMPLE)
    table: Any = data
    for key in place[:-1]:
        table = table[key]
    table[place[-1]] = value
    config = outcome(data)
    for name, parameters in config.services.items() if config else ():
        stored = json.dumps(parameters.model_dump(mode="json"), allow_nan=False)
        assert Parameters.model_validate(json.loads(stored)) == parameters
        for environment in Environment:
            parameters.for_environment(environment)
        assert config is not None
        assert set(config.parameter_sources(name).values()) <= {"service", "pipeline", "default"}


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(places(EXAMPLE)), key=keys, value=values)
def test_any_key_more(place: tuple[Any, ...], key: str, value: Any) -> None:
    data = copy.deepcopy(EXAMPLE)
    table: Any = data
    for step in place:
        table = table[step]
    if isinstance(table, dict):
        table[key] = value
    outcome(data)


@settings(max_examples=100, deadline=None)
@given(data=st.dictionaries(keys | st.sampled_from(sorted(EXAMPLE)), values, max_size=4))
def test_any_tables(data: dict[str, Any]) -> None:
    outcome(data)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80) | st.text(alphabet="[]{}=.\"'#\\\n\r au0é", max_size=40).map(str.encode))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "seamless.toml"
    file.write_bytes(content)
    with contextlib.suppress(ConfigError):
        load_config(file)


@given(milliseconds=st.integers(min_value=0, max_value=10**11))
def test_a_duration_is_read_as_it_is_shown(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@given(size=st.integers(min_value=1, max_value=10**6), unit=st.sampled_from("kmgt"))
def test_a_size_is_read_as_it_is_shown(size: int, unit: str) -> None:
    shown = format_size(parse_size(f"{size}{unit}"))
    assert parse_size(shown) == parse_size(f"{size}{unit}")
