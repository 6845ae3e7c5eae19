"""GitHub's published description of its API: finds an operation, checks what goes over it, and makes samples."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from openapi_schema_validator import OAS30Validator, oas30_format_checker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

_ROOT = "urn:github"
_SAMPLES = {"date-time": "2026-01-02T03:04:05Z", "uri": "https://github.example/x", "email": "ada@example.org"}


class NotAsDescribedError(AssertionError):
    """A request or an answer is not what GitHub's description says."""


@dataclass(frozen=True)
class Operation:
    """One method of one path, with what its path stands for."""

    method: str
    path: str  # "/repos/{owner}/{repo}"
    values: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


class Description:
    def __init__(self) -> None:
        text = Path(__file__).with_name("api.json").read_text(encoding="utf-8")
        self._all: dict[str, Any] = json.loads(text)
        resource = Resource.from_contents(self._all, default_specification=DRAFT4)
        self._registry = Registry().with_resource(_ROOT, resource)

    def find(self, method: str, path: str) -> Operation:
        """Raises NotAsDescribedError for what GitHub (or this cut of it) does not have."""
        for template, methods in self._all["paths"].items():
            pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template))
            match = re.fullmatch(pattern, path)
            if match and method.lower() in methods:
                return Operation(method.lower(), template, match.groupdict())
        raise NotAsDescribedError(f"GitHub has no {method} {path}; if it has, add it to cut.py")

    def check_request(self, operation: Operation, query: Mapping[str, str], body: Any) -> None:
        """Path, query and body, a body of None being none."""
        described = self._all["paths"][operation.path][operation.method]
        known = {}
        for parameter in described.get("parameters", []):
            parameter = self._resolved(parameter)
            known[parameter["in"], parameter["name"]] = parameter
        for name, value in operation.values.items():
            self._check(_typed(value, known["path", name]["schema"]), known["path", name]["schema"], f"path {name}")
        for name, value in query.items():
            if ("query", name) not in known:
                raise NotAsDescribedError(f"{operation} takes no {name} in its query")
            schema = self._resolved(known["query", name]["schema"])
            self._check(_typed(value, schema), schema, f"query {name}")
        content = described.get("requestBody")
        if body is not None and content is None:
            raise NotAsDescribedError(f"{operation} takes no body")
        if content is not None and (body is not None or content.get("required")):
            self._check({} if body is None else body, content["content"]["application/json"]["schema"], str(operation))

    def check_answer(self, operation: Operation, status: int, body: Any) -> None:
        answers = self._all["paths"][operation.path][operation.method]["responses"]
        if str(status) not in answers:
            raise NotAsDescribedError(f"{operation} never answers {status}")
        content = self._resolved(answers[str(status)]).get("content")
        if (content is None) != (body is None):
            raise NotAsDescribedError(f"{operation}, {status}: a body where none is described, or none where one is")
        if content is not None:
            media = content.get("application/json") or content["application/scim+json"]
            self._check(body, media["schema"], f"{operation}, {status}")

    def describes(self, operation: Operation, status: int) -> bool:
        return str(status) in self._all["paths"][operation.path][operation.method]["responses"]

    def check_event(self, event: str, payload: Any) -> None:
        """`event` with its action: "pull-request-opened"."""
        self._check(payload, self._all["events"][event]["schema"], f"event {event}")

    def sample(self, component: str, **values: Any) -> dict[str, Any]:
        """The least that is valid for a schema of the components, with these values in it."""
        made = self._sample({"$ref": f"#/components/schemas/{component}"})
        assert isinstance(made, dict)
        return {**made, **values}

    def sample_event(self, event: str, **values: Any) -> dict[str, Any]:
        made = self._sample(self._all["events"][event]["schema"])
        assert isinstance(made, dict)
        return laid_over(made, values)

    def _check(self, value: Any, schema: Mapping[str, Any], where: str) -> None:
        absolute = json.loads(json.dumps(schema).replace('"#/', f'"{_ROOT}#/'))
        validator = OAS30Validator(absolute, registry=self._registry, format_checker=oas30_format_checker)
        errors = sorted(validator.iter_errors(value), key=lambda error: len(error.path))
        if errors:
            first = errors[0]
            at = ".".join(str(part) for part in first.path)
            raise NotAsDescribedError(f"{where}: {at or 'the whole'}: {first.message[-500:]}")

    def _resolved(self, node: Any) -> Any:
        while "$ref" in node:
            _, _, kind, name = node["$ref"].split("/")
            node = self._all["components"][kind][name]
        return node

    def _sample(self, schema: Any, *, null: bool = True) -> Any:
        schema = self._resolved(schema)
        if schema.get("nullable") and null and "type" in schema:  # OpenAPI 3.0.3: without a type it means nothing
            return None
        if "enum" in schema:
            return schema["enum"][0]
        for choice in ("oneOf", "anyOf"):
            if choice in schema and "properties" not in schema:
                return self._sample(schema[choice][0], null=False)  # a null might be valid for two of them
        if "allOf" in schema:
            return self._sample(self._combined([self._resolved(part) for part in schema["allOf"]]))
        match schema.get("type", "object" if "properties" in schema else None):
            case "object":
                wanted = schema.get("required", [])
                return {name: self._sample(schema["properties"][name]) for name in wanted}
            case "array":
                return []
            case "string":
                return _SAMPLES.get(schema.get("format", ""), "x")
            case "integer" | "number":
                return 1
            case "boolean":
                return False
        return None

    def _combined(self, parts: list[Any]) -> dict[str, Any]:
        """One schema of objects for several that hold at once: of each property what any of them asks."""
        properties: dict[str, Any] = {}
        for part in parts:
            for name, wanted in part.get("properties", {}).items():
                known, wanted = properties.get(name), self._resolved(wanted)
                both = wanted.get("nullable") and (known is None or known.get("nullable"))
                properties[name] = {**(known or {}), **wanted, "nullable": bool(both)}
        required = [name for part in parts for name in part.get("required", [])]
        return {"type": "object", "properties": properties, "required": required}


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    if schema.get("type") == "integer" and text.lstrip("-").isdigit():
        return int(text)
    return text == "true" if schema.get("type") == "boolean" and text in ("true", "false") else text


def laid_over(base: Any, over: Mapping[str, Any]) -> dict[str, Any]:
    """Two JSON objects, tables key by key; a null in `over` says nothing."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, dict):
            below = merged.get(key)
            merged[key] = laid_over(below if isinstance(below, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


@cache
def description() -> Description:
    """Read once."""
    return Description()
