"""Node, Python, Go, Ruby and Rust: how their projects say what they need.

Commands write into the workspace (a virtual environment, vendor/bundle) or into a cache: each stage has a container of
its own, and nothing else of it is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from seamless.discovery.files import Files, at, table_at
from seamless.discovery.suggestions import Suggestion, version_in

_NODE: Final = "22"
_PYTHON: Final = "3.12"
_RUBY: Final = "3.3"
_GO: Final = "1"
_RUST: Final = "1"


def node(files: Files) -> Iterator[Suggestion]:
    if "package.json" not in files:
        return
    package = files.json("package.json")
    asked = (files.text(".nvmrc") or files.text(".node-version")).strip()
    engine = at(package, "engines", "node")
    major = version_in(asked, parts=1) or version_in(engine, parts=1)
    why = ".nvmrc or .node-version" if version_in(asked) else f"engines.node is {engine}" if major else "a current LTS"
    yield Suggestion("image", f"node:{major or _NODE}", why)
    manager = _node_manager(files)
    commands = {
        "npm": ("npm ci", "/root/.npm", "package-lock.json"),
        "yarn": ("corepack enable\nyarn install --frozen-lockfile", "/usr/local/share/.cache/yarn", "yarn.lock"),
        "berry": ("corepack enable\nyarn install --immutable", "/root/.yarn/berry/cache", ".yarnrc.yml"),
        "pnpm": ("corepack enable\npnpm install --frozen-lockfile", "/root/.local/share/pnpm/store", "pnpm-lock.yaml"),
        "": ("npm install", "/root/.npm", "there is no lock file"),
    }
    install, cache, reason = commands[manager]
    yield Suggestion("install", install, reason)
    yield Suggestion("caches", [cache], "where its package manager keeps what it fetched")
    scripts = table_at(package, "scripts")
    run = {"pnpm": "corepack enable\npnpm run", "yarn": "yarn run", "berry": "corepack enable\nyarn run"}.get(
        manager, "npm run"
    )
    quality = [name for name in ("lint", "typecheck", "type-check", "format:check") if name in scripts]
    if quality:
        yield Suggestion("code_quality", _scripts(run, quality), f"scripts of package.json: {', '.join(quality)}")
    test = next((name for name in ("test:ci", "test:unit", "test") if name in scripts), None)
    if test is not None and "no test specified" not in str(scripts[test]):
        yield Suggestion("unit_test", _scripts(run, [test]), f"script {test} of package.json: {_short(scripts[test])}")


def _node_manager(files: Files) -> str:
    if "pnpm-lock.yaml" in files:
        return "pnpm"
    if "yarn.lock" in files:
        return "berry" if ".yarnrc.yml" in files else "yarn"
    return "npm" if files.first("package-lock.json", "npm-shrinkwrap.json") else ""


def _scripts(run: str, names: Sequence[str]) -> str:
    *before, last = run.split("\n")
    return "\n".join([*before, *(f"{last} {name}" for name in names)])


def _short(text: Any) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= 40 else f"{text[:39]}…"


def python(files: Files) -> Iterator[Suggestion]:
    manifest = files.first("pyproject.toml", "setup.py", "requirements.txt", "Pipfile")
    if manifest is None:
        return
    project = files.toml("pyproject.toml")
    asked = version_in(files.text(".python-version"))
    floor = version_in(at(project, "project", "requires-python")) or version_in(
        at(project, "tool", "poetry", "dependencies", "python")
    )
    why = ".python-version" if asked else "the oldest that pyproject.toml allows" if floor else "a current one"
    yield Suggestion("image", f"python:{asked or floor or _PYTHON}", why)
    wanted = _python_requirements(files, project)
    checks = [
        tool
        for tool, configured in (
            ("ruff check .", "ruff.toml" in files or at(project, "tool", "ruff") is not None),
            ("flake8", ".flake8" in files),
            ("mypy .", files.first("mypy.ini", ".mypy.ini") or at(project, "tool", "mypy") is not None),
        )
        if configured or _names(wanted, tool.split()[0])
    ]
    tools = [check.split()[0] for check in checks]
    pytest = _names(wanted, "pytest") or at(project, "tool", "pytest") or files.first("pytest.ini", "conftest.py")
    install, reason = _python_install(files, project, [*tools, *(["pytest"] if pytest else [])])
    yield Suggestion("install", install, reason)
    yield Suggestion("caches", ["/root/.cache"], "what pip and its like fetched")
    if checks:
        script = "\n".join(f".venv/bin/python -m {check}" for check in checks)
        yield Suggestion("code_quality", script, f"configured, or among the requirements: {', '.join(tools)}")
    if pytest:
        yield Suggestion("unit_test", ".venv/bin/python -m pytest --junitxml=reports/unit.xml", "pytest is used")
        yield Suggestion("junit", ["reports/unit.xml"], "pytest writes it")
    elif files.matching(r"tests?/(?:\w+/)*test\w*\.py"):
        yield Suggestion("unit_test", ".venv/bin/python -m unittest discover", "there are tests, and no pytest")


def _names(requirements: str, tool: str) -> bool:
    return re.search(rf"(?m)^{tool}\b", requirements) is not None


def _python_install(files: Files, project: dict[str, Any], tools: Sequence[str]) -> tuple[str, str]:
    """Into .venv, which later stages see; with the tools that the checks need."""
    make = "python -m venv .venv\n"
    if "uv.lock" in files:
        return f"{make}pip install uv\nuv sync --frozen --all-extras --all-groups", "uv.lock"
    if "poetry.lock" in files:
        return (
            f"{make}pip install poetry\nPOETRY_VIRTUALENVS_IN_PROJECT=1 poetry install --no-interaction",
            "poetry.lock",
        )
    if "Pipfile" in files and "pyproject.toml" not in files:
        return "pip install pipenv\nPIPENV_VENV_IN_PROJECT=1 pipenv sync --dev", "Pipfile"
    required = files.matching(
        r"requirements(?:[-_.]?(?:dev|test|tests|ci))?\.txt|requirements/(?:base|dev|test|ci)\.txt"
    )
    if required:
        named = " ".join(f"-r {path}" for path in required)
        more, why = _missing(tools, "\n".join(files.text(path) for path in required))
        return f"{make}.venv/bin/pip install {named}{more}", f"{', '.join(required)}{why}"
    extras = [name for name in ("dev", "test", "tests") if at(project, "project", "optional-dependencies", name)]
    if "pyproject.toml" in files and "project" not in project and "build-system" not in project:
        more, why = _missing(tools, "")
        install = f"{make}.venv/bin/pip install{more}" if more else make.strip()
        return install, f"pyproject.toml describes no package{why}"
    named = f"'.[{','.join(extras)}]'" if extras else "."
    required = [*_listed(project, "dependencies"), *table_at(project, "tool", "poetry", "dependencies")]
    required += [item for extra in extras for item in _listed(project, "optional-dependencies", extra)]
    more, why = _missing(tools, "\n".join(required))
    what = f"its extras: {', '.join(extras)}" if extras else "a package"
    return f"{make}.venv/bin/pip install -e {named}{more}", f"{what}{why}"


def _listed(project: dict[str, Any], *keys: str) -> list[str]:
    found = at(project, "project", *keys)
    return [str(item) for item in found] if isinstance(found, list) else []


def _missing(tools: Sequence[str], required: str) -> tuple[str, str]:
    """What pip is to install beside, as the end of its command, and of the reason."""
    missing = [tool for tool in tools if not _names(required, tool)]
    return "".join(f" {tool}" for tool in missing), f"; without {', '.join(missing)}" if missing else ""


def _python_requirements(files: Files, project: dict[str, Any]) -> str:
    """The names of what is required, one a line."""
    lists = [at(project, "project", "dependencies"), *table_at(project, "project", "optional-dependencies").values()]
    lists += table_at(project, "dependency-groups").values()
    names = [str(item) for items in lists if isinstance(items, list) for item in items]
    for table in ("dependencies", "dev-dependencies"):
        names += table_at(project, "tool", "poetry", table)
    for group in table_at(project, "tool", "poetry", "group").values():
        names += table_at(group, "dependencies")
    texts = [files.text(path) for path in files.matching(r"requirements[\w.-]*\.txt|requirements/[\w.-]+\.txt|Pipfile")]
    return "\n".join([*names, *texts])


def go(files: Files) -> Iterator[Suggestion]:
    if "go.mod" not in files:
        return
    directive = re.search(r"(?m)^go\s+(\d+\.\d+)", files.text("go.mod"))
    yield Suggestion(
        "image", f"golang:{directive[1] if directive else _GO}", "go.mod" if directive else "a current one"
    )
    vendored = files.has_folder("vendor")
    if not vendored:
        yield Suggestion("install", "go mod download", "go.mod; nothing is vendored")
    yield Suggestion("caches", ["/go/pkg/mod", "/root/.cache/go-build"], "Go's modules and what it compiled")
    format_check = "" if vendored else 'test -z "$(gofmt -l . | tee /dev/stderr)"\n'
    yield Suggestion("code_quality", f"{format_check}go vet ./...", "gofmt and vet come with Go")
    yield Suggestion(
        "unit_test", "go test ./...", "there are *_test.go" if files.matching(r".*_test\.go") else "Go's own"
    )


def ruby(files: Files) -> Iterator[Suggestion]:
    if "Gemfile" not in files:
        return
    gems = files.text("Gemfile") + files.text("Gemfile.lock")
    written = re.search(r"""(?m)^\s*ruby\s+["'][^\d"']*([\d.]+)""", files.text("Gemfile"))
    asked = version_in(files.text(".ruby-version").replace("ruby-", "")) or (
        version_in(written[1]) if written else None
    )
    yield Suggestion("image", f"ruby:{asked or _RUBY}", ".ruby-version or Gemfile" if asked else "a current one")
    yield Suggestion(
        "install",
        "bundle config set --local path vendor/bundle\nbundle install",
        "Gemfile; into the workspace, where later stages see it",
    )
    yield Suggestion("caches", ["/usr/local/bundle/cache"], "what Bundler fetched")
    if ".rubocop.yml" in files or re.search(r"\brubocop\b", gems):
        yield Suggestion("code_quality", "bundle exec rubocop", "RuboCop is used")
    if files.has_folder("spec") and re.search(r"\brspec\b|\brspec-", gems):
        yield Suggestion("unit_test", "bundle exec rspec", "spec/ and RSpec")
    elif re.search(r"\brails\b", gems) and files.has_folder("test"):
        yield Suggestion("unit_test", "bundle exec rails test", "test/ and Rails")
    elif "Rakefile" in files and files.has_folder("test"):
        yield Suggestion("unit_test", "bundle exec rake test", "test/ and a Rakefile")


def rust(files: Files) -> Iterator[Suggestion]:
    if "Cargo.toml" not in files:
        return
    cargo = files.toml("Cargo.toml")
    channel = at(files.toml("rust-toolchain.toml"), "toolchain", "channel") or files.text("rust-toolchain")
    asked = version_in(channel) or version_in(at(cargo, "package", "rust-version"))
    yield Suggestion(
        "image", f"rust:{asked or _RUST}", "rust-toolchain or rust-version" if asked else "the current one"
    )
    locked = " --locked" if "Cargo.lock" in files else ""
    yield Suggestion("install", f"cargo fetch{locked}", "Cargo.lock" if locked else "there is no Cargo.lock")
    yield Suggestion("caches", ["/usr/local/cargo/registry"], "the crates that Cargo fetched")
    yield Suggestion(
        "code_quality",
        "rustup component add clippy rustfmt\ncargo fmt --all --check\ncargo clippy --all-targets -- -D warnings",
        "the image is without clippy and rustfmt",
    )
    yield Suggestion("unit_test", f"cargo test{locked}", "Cargo's own")
