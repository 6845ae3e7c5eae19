"""What a deployment does, decided from requests and containers that exist on paper only."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless.model import DigestKind, ImageRef
from seamless.targets.docker_plan import (
    BACK,
    Container,
    Plan,
    Step,
    container_plan,
    describe_exit,
    explain_start,
    free_address,
    halves,
    last_lines,
    plan,
    registry_of,
    release,
    same_image,
    service_labels,
)

from .deploying import request

IMAGE_ID = "sha256:" + "a" * 64
SUBNETS = st.builds(
    lambda base, size: str(ipaddress.IPv4Network((base, size), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(8, 28),
)


def container(deployment: int, *, publish: int | None = None, **changes: Any) -> Container:
    """A release that serves."""
    asked = request(deployment, IMAGE_ID, publish=publish)
    made = container_plan("0a0b0c0d", asked, "172.20.0.0/16", (), trial=False, named=True)
    values: dict[str, Any] = {"status": "running", "kept": True, "attached": True}
    return Container(f"id{deployment}", made.name, image=asked.image, labels=made.labels, **{**values, **changes})


@pytest.mark.parametrize(
    ("old", "publish", "old_id", "gap", "named_later"),
    [
        (None, 80, None, False, False),
        (container(1), None, "id1", False, True),
        (container(1, publish=80), 80, "id1", True, False),
        (container(1, publish=80), 81, "id1", False, True),
        (container(1, publish=80), None, "id1", False, True),
        (container(1), 80, "id1", False, True),
        (container(1, publish=80, status="exited"), 80, "id1", False, False),
        (container(1, kept=False), None, None, False, False),
    ],
)
def test_only_a_port_that_both_publish_makes_a_gap(
    old: Container | None, publish: int | None, old_id: str | None, gap: bool, named_later: bool
) -> None:
    made = plan(request(2, IMAGE_ID, publish=publish), [old] if old else [])
    assert (made.old, made.has_gap, not made.alone) == (old_id, gap, named_later)
    assert Plan.from_json(made.to_json()) == made


def test_the_old_release_loses_its_place_only_after_the_new_one_is_proved() -> None:
    for found in ([container(1)], [container(1, publish=80)]):
        steps = plan(request(2, IMAGE_ID, publish=80), found).forward
        assert steps.index(Step.VERIFY) < steps.index(Step.KEEP)
        if Step.RETIRE_OLD in steps:
            assert steps.index(Step.KEEP) < steps.index(Step.RETIRE_OLD)
        if Step.STOP_OLD in steps:
            assert steps.index(Step.VERIFY_TRIAL) < steps.index(Step.REMOVE_TRIAL) < steps.index(Step.STOP_OLD)
            assert steps.index(Step.STOP_OLD) < steps.index(Step.START)
    assert BACK.index(Step.DISCARD) < BACK.index(Step.RESTORE_OLD) < BACK.index(Step.VERIFY_OLD)


def test_a_deployment_does_not_take_its_own_container_for_the_old_one() -> None:
    assert plan(request(2, IMAGE_ID), [container(2)]).old is None


def test_the_release_is_the_newest_that_runs_and_was_proved() -> None:
    found = [container(1), container(2), container(3, kept=False), container(4, status="exited")]
    assert release(found) == found[1]
    assert release([found[3]]) == found[3]
    assert release([found[2]]) is None


def test_a_trial_is_neither_named_nor_published() -> None:
    asked = request(7, IMAGE_ID, publish=80, env={"A": "1"}, secret_env={"B": "2", "A": "3"})
    trial = container_plan("0a0b0c0d", asked, "172.20.0.0/16", (), trial=True, named=False)
    final = container_plan("0a0b0c0d", asked, "172.20.0.0/16", (), trial=False, named=True)
    assert (trial.aliases, trial.publish, trial.name) == ((), None, "seamless-0a0b0c0d-staging-web-7-trial")
    assert (final.aliases, final.publish, final.name) == (("web",), 80, "seamless-0a0b0c0d-staging-web-7")
    assert trial.address != final.address
    assert final.env == {"A": "3", "B": "2", "PORT": "8080"}
    assert "'3'" not in repr(final)
    assert service_labels("0a0b0c0d", "web", asked.environment).items() <= final.labels.items()


def test_a_port_of_the_host_needs_one_of_the_container() -> None:
    asked = request(7, IMAGE_ID, port=None, publish=80, health="")
    assert container_plan("0a0b0c0d", asked, "172.20.0.0/16", (), trial=False, named=True).publish is None


@given(SUBNETS, st.integers(0, 10**9), st.integers(0, 5))
def test_addresses_are_free_and_never_those_that_the_engine_gives_out(subnet: str, wish: int, others: int) -> None:
    lower, upper = (ipaddress.IPv4Network(half) for half in halves(subnet))
    taken: list[str] = []
    for _ in range(others + 1):
        address = free_address(subnet, wish, taken)
        assert ipaddress.IPv4Address(address) in lower
        assert ipaddress.IPv4Address(address) not in upper
        assert address not in (*taken, str(lower[0]), str(lower[1]))
        taken.append(address)


def test_a_full_network_is_an_error() -> None:
    lower = ipaddress.IPv4Network(halves("10.0.0.0/28")[0])
    with pytest.raises(ValueError, match="no address is free"):
        free_address("10.0.0.0/28", 1, [str(address) for address in lower])


@given(st.lists(st.text(min_size=6), min_size=1, max_size=3), st.text(), st.binary(max_size=50))
def test_last_lines_never_show_a_secret(secrets: list[str], before: str, after: bytes) -> None:
    output = before.encode(errors="replace") + b"\n".join(each.encode(errors="replace") for each in secrets) + after
    known = [secret.encode(errors="replace").decode() for secret in secrets]
    shown = "\n".join(last_lines(output, known))
    for secret in known:
        assert secret not in shown or secret in "***\n" * 9


def test_last_lines_that_begin_in_the_middle_of_a_secret_do_not_show_its_rest() -> None:
    key = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nq2lOd2Fzbm90\n-----END KEY-----"
    assert last_lines(b"IBAAKCAQEA\nq2lOd2Fzbm90\n-----END KEY-----\nstopped\n", [key], limit=3) == [
        "***",
        "***",
        "stopped",
    ]


def test_last_lines_are_bounded() -> None:
    lines = last_lines(b"".join(b"%d" % n + b"x" * 10_000 + b"\n" for n in range(100)), ())
    assert len(lines) == 20
    assert {len(line) for line in lines} == {400}
    assert lines[-1].startswith("99x")


def test_exits_are_described() -> None:
    ended = container(1, status="exited", exit_code=137, out_of_memory=True, memory=512 * 1024**2)
    assert describe_exit(ended) == "exit code 137, out of memory (limit 512 MiB)"
    assert describe_exit(replace(ended, memory=0)) == "exit code 137, out of memory"
    missed = replace(ended, out_of_memory=False)
    assert describe_exit(missed) == "exit code 137, killed, perhaps out of memory (limit 512 MiB)"
    assert describe_exit(replace(missed, memory=0)) == "exit code 137"
    assert describe_exit(replace(ended, out_of_memory=False, exit_code=2)) == "exit code 2"


def test_refused_starts_are_explained() -> None:
    taken = "driver failed: Bind for 0.0.0.0:80 failed: port is already allocated"
    assert explain_start(taken, 80, ["shop"]) == "port 80 of the host is taken by the container shop"
    assert explain_start("listen tcp4 0.0.0.0:80: bind: address already in use", 80, []) == (
        "port 80 of the host is taken by another program"
    )
    assert explain_start('exec: "x": not found\nmore', None, []) == 'the engine cannot start it: exec: "x": not found'


def test_images_are_known_by_what_they_were_created_from() -> None:
    digest = "sha256:" + "b" * 64
    assert same_image(IMAGE_ID, IMAGE_ID) == ImageRef(IMAGE_ID, DigestKind.IMAGE_ID)
    assert same_image(IMAGE_ID, f"127.0.0.1:5000/team/web@{digest}") == ImageRef(
        digest, DigestKind.MANIFEST, "127.0.0.1:5000/team/web"
    )


@pytest.mark.parametrize(
    ("repository", "registry"),
    [
        ("127.0.0.1:5000/team/web", "127.0.0.1:5000"),
        ("ghcr.io/acme/web", "ghcr.io"),
        ("localhost/web", "localhost"),
        ("acme/web", "docker.io"),
        ("web", "docker.io"),
    ],
)
def test_a_repository_names_its_registry(repository: str, registry: str) -> None:
    assert registry_of(repository) == registry
