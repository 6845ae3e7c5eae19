"""What Fargate offers: the sizes of a task, and what they cost.

Sizes: docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html#task_size; a test compares
them with the schema that cfn-lint carries. Prices: aws.amazon.com/fargate/pricing and aws.amazon.com/vpc/pricing,
Linux, us-east-1, as of 2026.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

Architecture = Literal["X86_64", "ARM64"]

MEMORY_BY_CPU: Final[dict[int, tuple[int, ...]]] = {  # CPU units (1024 are one vCPU) -> MiB
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4096 + 1, 1024)),
    1024: tuple(range(2048, 8192 + 1, 1024)),
    2048: tuple(range(4096, 16384 + 1, 1024)),
    4096: tuple(range(8192, 30720 + 1, 1024)),
    8192: tuple(range(16384, 61440 + 1, 4096)),
    16384: tuple(range(32768, 122880 + 1, 8192)),
    32768: (61440, 122880, 249856),
}

PRICE_REGION: Final = "us-east-1"
_HOURS_A_MONTH: Final = 730
_VCPU_HOUR: Final[dict[Architecture, float]] = {"X86_64": 0.04048, "ARM64": 0.03238}  # USD
_GIB_HOUR: Final[dict[Architecture, float]] = {"X86_64": 0.004445, "ARM64": 0.00356}
_ADDRESS_HOUR: Final = 0.005  # a public IPv4 address


def size_problem(cpu: int, memory: int) -> str | None:
    """Why no task can have `cpu` units and `memory` MiB, and what would do; None when it can."""
    fitting = MEMORY_BY_CPU.get(cpu)
    if fitting is None:
        return f"Fargate has no tasks of {cpu} CPU units; there are {_listed(MEMORY_BY_CPU)}"
    if memory in fitting:
        return None
    others = [units for units, memories in MEMORY_BY_CPU.items() if memory in memories]
    other = f"; {memory} MiB go with cpu {_listed(others)}" if others else ""
    return f"{cpu} CPU units go with {_memories(fitting)} MiB of memory, not {memory}{other}"


def monthly_cost(cpu: int, memory: int, *, architecture: Architecture, public_address: bool) -> float:
    """USD of one task that runs all month, at the list price of `PRICE_REGION`."""
    hour = cpu / 1024 * _VCPU_HOUR[architecture] + memory / 1024 * _GIB_HOUR[architecture]
    return _HOURS_A_MONTH * (hour + (_ADDRESS_HOUR if public_address else 0.0))


def _memories(fitting: tuple[int, ...]) -> str:
    if len(fitting) <= 4:
        return _listed(fitting)
    return f"{fitting[0]} to {fitting[-1]} (in steps of {fitting[1] - fitting[0]})"


def _listed(numbers: Iterable[int]) -> str:
    words = [str(number) for number in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
