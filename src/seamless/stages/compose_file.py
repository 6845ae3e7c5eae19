"""A Compose file as it stands in the checkout, read before any Compose program sees it.

`docker-compose config` reads and inlines what `env_file`, `extends` and `include` name, wherever that is. So
these paths are checked first, in every file that one leads to. What the program makes of the file, with
variables put in and defaults filled in, is checked afterwards by `compose_policy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from seamless.errors import StageError
from seamless.executors.builder import Version
from seamless.stages.checkout import OutsideCheckoutError, resolve_inside
from seamless.stages.compose_versions import needed_version, shown_version

_MAX_BYTES: Final = 512 * 1024
_MAX_NODES: Final = 50_000  # with aliases written out
_MAX_FILES: Final = 50

Problem = str
"""One line: where, which key, why."""


@dataclass(frozen=True, slots=True)
class ComposeFile:
    """A Compose file whose own paths are safe to follow. `path` and `folder` are real ones."""

    path: Path
    shown: str  # as a person would name it: relative to the checkout
    services: tuple[str, ...]  # of the main file, before `extends` and `include`

    @property
    def folder(self) -> Path:
        return self.path.parent


@dataclass(slots=True)
class _Reader:
    """Walks the main file and all that it includes or extends; gathers every problem."""

    checkout: Path
    version: Version  # of the Compose program that is installed
    problems: list[Problem] = field(default_factory=list)
    seen: set[tuple[Path, Path]] = field(default_factory=set)

    def read(self, path: Path, base: Path) -> Mapping[str, Any]:
        """`path` is a real one; `base` is the folder that paths in that file count from, as Compose sees it."""
        if (path, base) in self.seen:
            return {}
        if len(self.seen) == _MAX_FILES:
            raise StageError(f"the Compose file leads to more than {_MAX_FILES} others")
        self.seen.add((path, base))
        shown = str(path.relative_to(self.checkout.resolve()))
        document, tags = load_yaml(path, shown)
        for where, version in needed_version(document, tags):
            if version > self.version:
                self.problems.append(
                    f"{shown}: {where} needs Docker Compose {shown_version(version)}"
                    f" (installed: {shown_version(self.version)})"
                )
        for reference in _references(document, base):
            self.follow(shown, reference)
        return document

    def follow(self, shown: str, reference: _Reference) -> None:
        written, where = reference.written, f"{shown}: {reference.where}"
        if not isinstance(written, str) or "$" in written or "://" in written or written.startswith("~"):
            self.problems.append(f"{where}: must be a plain path in the checkout, not {_quoted(written)}")
            return
        try:
            real = resolve_inside(self.checkout, written, base=reference.folder)
        except OutsideCheckoutError as error:
            self.problems.append(f"{where}: {_quoted(written)} {error}")
            return
        if reference.compose_base is not None and real.is_file():
            self.read(real, reference.compose_base)


def read_compose_file(checkout: Path, compose_file: str, *, folder: str = "", version: Version) -> ComposeFile:
    """Reads `compose_file`, which counts from `folder` of the checkout, and checks what Compose would read with it.

    Blocks for as long as parsing takes. Raises StageError with everything that is wrong, a line each.
    """
    shown = str(Path(folder, compose_file))
    try:
        path = resolve_inside(checkout, compose_file, base=checkout / folder)
    except OutsideCheckoutError as error:
        raise StageError(f"the Compose file, {shown}, {error}") from error
    if not path.is_file():
        raise StageError(f"there is no Compose file at {shown}", hint="commit one there, or set integration_test")
    reader = _Reader(checkout, version)
    document = reader.read(path, path.parent)
    raise_problems(shown, reader.problems)
    services = document.get("services")
    return ComposeFile(path, shown, tuple(map(str, services)) if isinstance(services, Mapping) else ())


def raise_problems(shown: str, problems: list[Problem]) -> None:
    """Raises StageError that tells all problems, unless there are none."""
    if len(problems) > 1:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise StageError(f"{shown} is refused for {len(problems)} things:\n{listed}")
    if problems:
        raise StageError(f"{shown} is refused: {problems[0]}")


def load_yaml(path: Path, shown: str) -> tuple[Mapping[str, Any], frozenset[str]]:
    """The document and the tags of its own (`!reset`) in it. Raises StageError for what no honest file does.

    That is: being too large once its aliases are written out, naming a key twice (parsers differ in which
    one wins), nesting too deeply, and holding several documents.
    """
    with open(path, "rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise StageError(f"{shown} is larger than {_MAX_BYTES // 1024} KiB")
    try:
        root = yaml.compose(content, yaml.SafeLoader)
        tags = _check_nodes(root, shown)
        document = _construct(root)
    except yaml.YAMLError as error:
        raise StageError(f"{shown} is not YAML: {_one_line(error)}") from error
    except UnicodeDecodeError as error:
        raise StageError(f"{shown} is not text: {error.reason}") from error
    except (RecursionError, ValueError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else f"cannot be read: {error}"
        raise StageError(f"{shown} {reason}") from error
    if not isinstance(document, Mapping):
        raise StageError(f"{shown} is not a Compose file: it holds no table of services")
    return document, tags


class _Loader(yaml.SafeLoader):
    """Takes a tag that it does not know for the plain value below it."""


def _plain(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
    match node:
        case yaml.MappingNode():
            return loader.construct_mapping(node, deep=True)
        case yaml.SequenceNode():
            return loader.construct_sequence(node, deep=True)
        case _:
            return loader.construct_scalar(node)  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _plain)


def _construct(root: yaml.Node | None) -> Any:
    return None if root is None else _Loader("").construct_document(root)


def _check_nodes(root: yaml.Node | None, shown: str) -> frozenset[str]:
    sizes: dict[int, int] = {}
    tags: set[str] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            if sizes[id(node)] == 0:
                raise StageError(f"{shown}: line {node.start_mark.line + 1}: an alias contains itself")
            return sizes[id(node)]
        sizes[id(node)] = 0
        if node.tag.startswith("!"):
            tags.add(node.tag)
        total = 1
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, shown)
            total += sum(size(key) + size(value) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(size(item) for item in node.value)
        if total > _MAX_NODES:
            raise StageError(f"{shown} is too large once its aliases are written out")
        sizes[id(node)] = total
        return total

    if root is not None:
        size(root)
    return frozenset(tags)


def _check_keys(node: yaml.MappingNode, shown: str) -> None:
    names: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise StageError(f"{shown}: line {key.start_mark.line + 1}: a key is not plain text")
        if key.value in names and key.tag != "tag:yaml.org,2002:merge":
            raise StageError(f"{shown}: line {key.start_mark.line + 1}: the key {key.value} is there twice")
        names.add(key.value)


@dataclass(frozen=True, slots=True)
class _Reference:
    """A file or folder that reading a Compose file leads to."""

    where: str
    written: object
    folder: Path  # that the path counts from, links not resolved, as Compose has it
    compose_base: Path | None = None  # for a Compose file: what the paths in it count from


def _references(document: Mapping[str, Any], folder: Path) -> Iterator[_Reference]:
    for entry in _listed(document.get("include")):
        yield from _of_include(entry if isinstance(entry, Mapping) else {"path": entry}, folder)
    services = document.get("services")
    for name, service in services.items() if isinstance(services, Mapping) else ():
        if not isinstance(service, Mapping):
            continue
        for key in ("env_file", "label_file"):
            for entry in _listed(service.get(key)):
                written = entry.get("path") if isinstance(entry, Mapping) else entry
                yield _Reference(f"services.{name}.{key}", written, folder)
        extends = service.get("extends")
        if isinstance(extends, Mapping) and extends.get("file") is not None:
            written = extends["file"]
            yield _Reference(f"services.{name}.extends.file", written, folder, Path(folder, str(written)).parent)


def _of_include(entry: Mapping[str, Any], folder: Path) -> Iterator[_Reference]:
    paths, project = _listed(entry.get("path")), entry.get("project_directory")
    if project is not None:
        yield _Reference("include.project_directory", project, folder)
    first = Path(folder, str(paths[0])).parent if paths else folder
    base = first if project is None else Path(folder, str(project))
    for written in paths:
        yield _Reference("include.path", written, folder, base)
    yield _Reference("include's .env", ".env", base)  # which Compose reads unasked
    for written in _listed(entry.get("env_file")):
        yield _Reference("include.env_file", written, folder)


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _quoted(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 80 else f"{text[:79]}…")


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)
