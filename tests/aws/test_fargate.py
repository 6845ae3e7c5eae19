"""What Fargate offers, compared with the schema that cfn-lint took from AWS."""

from __future__ import annotations

import json
import math
from importlib import resources
from typing import Any

import pytest

from seamless.aws.fargate import MEMORY_BY_CPU, monthly_cost, size_problem


def sizes_by_schema() -> dict[int, tuple[int, ...]]:
    folder = resources.files("cfnlint.data.schemas.extensions.aws_ecs_taskdefinition")
    schema = json.loads((folder / "fargate_cpu_memory.json").read_text(encoding="utf-8"))
    found = {}
    for choice in schema["then"]["anyOf"]:
        cpu, memory = (choice["properties"][name]["then"] for name in ("Cpu", "Memory"))
        found[int(cpu["enum"][0])] = _memories(memory)
    return found


def _memories(allowed: dict[str, Any]) -> tuple[int, ...]:
    if "enum" in allowed:
        return tuple(allowed["enum"])
    return tuple(range(allowed["minimum"], allowed["maximum"] + 1, allowed["multipleOf"]))


def test_the_sizes_are_those_of_the_schema() -> None:
    assert sizes_by_schema() == MEMORY_BY_CPU


def test_a_size_is_right_exactly_when_the_table_has_it() -> None:
    for cpu, memories in MEMORY_BY_CPU.items():
        assert [memory for memory in range(0, 250000, 256) if size_problem(cpu, memory) is None] == list(memories)


@pytest.mark.parametrize(
    ("architecture", "public", "usd"), [("X86_64", False, 9.01), ("X86_64", True, 12.66), ("ARM64", False, 7.21)]
)
def test_what_the_smallest_task_costs_a_month(architecture: Any, public: bool, usd: float) -> None:
    cost = monthly_cost(256, 512, architecture=architecture, public_address=public)
    assert math.isclose(cost, usd, abs_tol=0.01)
