"""Imports point one way, and start-up stays cheap: the rules of docs/architecture.md, kept."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
LONGEST_MODULE = 400  # lines

SHARED = frozenset(
    [
        "__init__",
        "archives",
        "clock",
        "config",
        "crashpoints",
        "discovery",
        "errors",
        "github_names",
        "findings",
        "loglines",
        "logtext",
        "model",
        "paths",
        "patterns",
        "programs",
        "secretrefs",
        "tomlfile",
        "transitions",
        "wire",
        "wire_environments",
        "wire_github",
        "wire_logs",
        "wire_plans",
    ]
)
CLIENT = SHARED | {"client", "connection"}
WORKERS = frozenset(["executors", "targets", "forges", "aws", "notifiers"])

# Room of src/seamless -> the rooms that it may import; itself always.
ROOMS = {
    **dict.fromkeys(SHARED, SHARED),
    **dict.fromkeys(["client", "connection"], CLIENT),
    **dict.fromkeys(WORKERS, SHARED),
    "targets": SHARED | {"aws"},
    "stages": SHARED | WORKERS,
    "agent": SHARED | WORKERS | {"stages"},
    "rendering": SHARED,
    "cli": CLIENT | {"rendering"},
    "tui": CLIENT | {"rendering"},
    "__main__": frozenset(["cli"]),
}

# Beyond these, inside a function: (module, what it imports there).
EXCEPTIONS = {
    ("seamless.cli.agent", "seamless.agent.main"),  # `seamless agent run` is the agent
    ("seamless.cli.backups", "seamless.agent.backup"),  # what an agent that does not run cannot do
    ("seamless.cli.backups", "seamless.agent.main"),
    ("seamless.cli.examining", "seamless.agent.checking"),  # where no agent answers, the command looks itself
    ("seamless.cli.examining", "seamless.agent.doctor"),
    ("seamless.cli.examining", "seamless.forges.git"),
    ("seamless.cli.host", "seamless.aws.build_host"),  # there is no agent yet
    ("seamless.cli.tui", "seamless.tui.program"),
}

# Library -> the rooms or modules that may import it.
LIBRARIES = {
    "aiosqlite": ["agent.store"],
    "boto3": ["aws"],
    "botocore": ["aws"],
    "docker": ["executors", "targets"],
    "fastapi": ["agent"],
    "github": ["forges"],
    "httpx": ["client", "forges.github.device", "stages", "notifiers"],
    "re2": ["patterns"],
    "pydantic": ["agent", "config", "secretrefs"],
    "textual": ["tui"],
    "typer": ["cli"],
    "uvicorn": ["agent"],
    "watchfiles": ["agent"],
}

# Loaded by no command of the CLI before it is known which one it is.
NOT_AT_START = [
    "asyncio",
    "docker",
    "fastapi",
    "httpx",
    "pydantic",
    "rich",
    "textual",
    "tomllib",
    "uvicorn",
    "websockets",
]


@dataclass(frozen=True)
class Import:
    """`module` imports `name`, which may be a module or something in one."""

    module: str
    name: str
    line: int
    in_function: bool
    only_types: bool

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}, imports {self.name}"

    @property
    def library(self) -> str:
        return self.name.partition(".")[0]


def modules() -> dict[str, Path]:
    """Every module of the package by its full name; packages end in `__init__` only at the top."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 2:
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


def imports_of(module: str, tree: ast.Module) -> Iterator[Import]:
    def walk(node: ast.AST, in_function: bool, only_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Import(names):
                    for alias in names:
                        yield Import(module, alias.name, child.lineno, in_function, only_types)
                case ast.ImportFrom(source, names, level):
                    assert level == 0, f"{module}, line {child.lineno}: a relative import"
                    for alias in names:
                        yield Import(module, f"{source}.{alias.name}", child.lineno, in_function, only_types)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                    yield from walk(child, True, only_types)
                case ast.If(ast.Name("TYPE_CHECKING")):
                    yield from walk(child, in_function, True)
                case _:
                    yield from walk(child, in_function, only_types)

    return walk(tree, False, False)


def all_imports() -> list[Import]:
    return [
        one
        for module, path in modules().items()
        for one in imports_of(module, ast.parse(path.read_text(encoding="utf-8"), str(path)))
    ]


def room_of(name: str) -> str:
    """`seamless.agent.store.runs` -> `agent`; `seamless` itself -> `__init__`."""
    room = name.split(".")[1] if "." in name else "__init__"
    return room if room in ROOMS else "__init__"


def is_below(module: str, places: list[str]) -> bool:
    within = module.removeprefix("seamless.")
    return any(within == place or within.startswith(f"{place}.") for place in places)


def test_every_module_is_in_a_room_of_the_table() -> None:
    found = {name.split(".")[1] for name in modules()}
    assert found - set(ROOMS) == set(), "name the room, and what it may import"
    assert set(ROOMS) - found == set(), "the table has rooms that are not there"


def test_imports_point_one_way() -> None:
    wrong = []
    for one in all_imports():
        if one.library != "seamless":
            continue
        here, there = room_of(one.module), room_of(one.name)
        excepted = any(one.module == module and one.name.startswith(name) for module, name in EXCEPTIONS)
        if there not in ROOMS[here] | {here} and not (excepted and one.in_function):
            wrong.append(str(one))
    assert wrong == []


def test_libraries_are_imported_only_where_they_belong() -> None:
    wrong = [
        str(one)
        for one in all_imports()
        if one.library in LIBRARIES and not one.only_types and not is_below(one.module, LIBRARIES[one.library])
    ]
    assert wrong == []


def test_the_aws_library_is_imported_at_first_use() -> None:
    """It takes a good part of a second."""
    wrong = [
        str(one)
        for one in all_imports()
        if one.library in ("boto3", "botocore") and not one.in_function | one.only_types
    ]
    assert wrong == []


def test_the_command_line_starts_without_what_a_command_may_not_need() -> None:
    script = "import sys, seamless.cli.main; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "seamless.cli.main" in done.stdout.split()
    assert set(NOT_AT_START).intersection(done.stdout.split()) == set()


def test_the_agent_starts_without_what_it_may_not_need() -> None:
    """Each of these is megabytes that an idle agent would hold."""
    script = "import sys, seamless.agent.main; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    too_early = {"boto3", "botocore", "github", "httpx", "pathspec", "re2", "rich", "textual"}
    assert too_early.intersection(done.stdout.split()) == set()


def test_modules_are_short_enough_to_be_read() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in modules().items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST_MODULE} == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import docker", [("docker", False, False)]),
        (
            "from seamless.agent import api, main",
            [("seamless.agent.api", False, False), ("seamless.agent.main", False, False)],
        ),
        ("def f():\n    import docker", [("docker", True, False)]),
        ("class C:\n    async def f(self):\n        if True:\n            import docker", [("docker", True, False)]),
        ("if TYPE_CHECKING:\n    import docker", [("docker", False, True)]),
        ("try:\n    import docker\nexcept ImportError:\n    pass", [("docker", False, False)]),
    ],
)
def test_all_imports_are_seen(source: str, expected: list[tuple[str, bool, bool]]) -> None:
    found = imports_of("seamless.x", ast.parse(source))
    assert [(one.name, one.in_function, one.only_types) for one in found] == expected
