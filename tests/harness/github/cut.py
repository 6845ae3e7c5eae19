"""Cuts what the fake needs out of GitHub's published OpenAPI description, into api.json beside this file.

    npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
    python tests/harness/github/cut.py package

To serve another operation or event, add it here and run this again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

OPERATIONS: Final = (
    "GET /user",
    "GET /repos/{owner}/{repo}",
    "GET /repos/{owner}/{repo}/branches/{branch}",
    "GET /repos/{owner}/{repo}/commits/{ref}/statuses",
    "POST /repos/{owner}/{repo}/statuses/{sha}",
    "GET /repos/{owner}/{repo}/pulls",
    "POST /repos/{owner}/{repo}/pulls",
    "GET /repos/{owner}/{repo}/pulls/{pull_number}",
    "PATCH /repos/{owner}/{repo}/pulls/{pull_number}",
    "GET /repos/{owner}/{repo}/pulls/{pull_number}/reviews",
    "POST /repos/{owner}/{repo}/pulls/{pull_number}/reviews",
    "PUT /repos/{owner}/{repo}/pulls/{pull_number}/merge",
    "GET /repos/{owner}/{repo}/hooks",
    "POST /repos/{owner}/{repo}/hooks",
    "PATCH /repos/{owner}/{repo}/hooks/{hook_id}",
    "DELETE /repos/{owner}/{repo}/hooks/{hook_id}",
    "POST /repos/{owner}/{repo}/hooks/{hook_id}/pings",
    "GET /repos/{owner}/{repo}/hooks/{hook_id}/deliveries",
    "POST /repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}/attempts",
)
EVENTS: Final = (
    "ping",
    "push",
    "pull-request-opened",
    "pull-request-reopened",
    "pull-request-ready-for-review",
    "pull-request-synchronize",
    "pull-request-closed",
    "pull-request-review-submitted",
    "status",
)
_NOT_NEEDED: Final = frozenset(
    ["deprecated", "description", "example", "examples", "externalDocs", "operationId", "summary", "tags", "title"]
)


def without_words(node: Any, *, names: bool = False) -> Any:
    """The node without what validates nothing. `names`: its keys are names of properties."""
    if isinstance(node, dict):
        return {
            key: without_words(value, names=key == "properties")
            for key, value in node.items()
            if names or (key not in _NOT_NEEDED and not key.startswith("x-"))
        }
    return [without_words(item) for item in node] if isinstance(node, list) else node


class Cut:
    def __init__(self, description: dict[str, Any]) -> None:
        self._all = description["components"]
        self.components: dict[str, dict[str, Any]] = {}

    def take(self, node: Any) -> Any:
        """The node without words; all that it refers to is taken into the components."""
        taken = without_words(node)
        self._follow(taken)
        return taken

    def _follow(self, node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(reference := node.get("$ref"), str):
                _, _, kind, name = reference.split("/")
                components = self.components.setdefault(kind, {})
                if name not in components:
                    components[name] = without_words(self._all[kind][name])
                    self._follow(components[name])
            for value in node.values():
                self._follow(value)
        elif isinstance(node, list):
            for item in node:
                self._follow(item)


def main(package: Path) -> None:
    description = json.loads((package / "generated" / "api.github.com.json").read_text(encoding="utf-8"))
    version = json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
    cut = Cut(description)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        method, path = operation.lower().split(" ")
        paths.setdefault(path, {})[method] = cut.take(description["paths"][path][method])
    events = {
        event: cut.take(description["x-webhooks"][event]["post"]["requestBody"]["content"]["application/json"])
        for event in EVENTS
    }
    components = {kind: dict(sorted(found.items())) for kind, found in sorted(cut.components.items())}
    notice = (package / "LICENSE").read_text(encoding="utf-8").strip()
    parts = {
        "from": f"@octokit/openapi {version}, generated/api.github.com.json, cut by cut.py",
        "license": notice,
        "paths": paths,
        "events": events,
        "components": components,
    }
    target = Path(__file__).with_name("api.json")
    target.write_text(_lines(parts), encoding="utf-8")
    sys.stdout.write(f"{target}: {target.stat().st_size} bytes\n")


def _lines(value: dict[str, Any], depth: int = 0) -> str:
    """JSON with a line for each path, event and component, so that a new version can be compared with the old."""
    deep = depth < 2 and all(isinstance(item, dict) for item in value.values())
    lines = []
    for key, item in value.items():
        nested = isinstance(item, dict) and (depth == 0 or (deep and depth < 2))
        text = _lines(item, depth + 1) if nested else json.dumps(item, separators=(",", ":"))
        lines.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}" + ("\n" if depth == 0 else "")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
