"""The Compose project that is run, made out of the one that the repository has: nothing here runs anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from seamless.config import Limits
from seamless.errors import StageError
from seamless.model import DigestKind, ImageRef, Trust
from seamless.stages.compose_file import ComposeFile
from seamless.stages.integration import (
    IntegrationPlan,
    Peer,
    PeerImage,
    find_peers,
    plan_integration,
    project_name,
)

from .conftest import WriteTree

CANDIDATE = PeerImage(ImageRef("sha256:" + "c" * 64, DigestKind.IMAGE_ID), "c" * 40, "candidate")
DEPLOYED = PeerImage(ImageRef("sha256:" + "d" * 64, DigestKind.MANIFEST, "r.example/cart"), "d" * 40, "production")


def plan(resolved: Mapping[str, Any], checkout: Path, **changes: Any) -> IntegrationPlan:
    given: dict[str, Any] = {
        "file": ComposeFile(checkout / "compose.yml", "compose.yml", tuple(resolved["services"])),
        "checkout": checkout,
        "test_service": "tests",
        "named": {},
        "images": {},
        "service": "payment",
        "installation": "0badcafe",
        "run": "payment-7",
        "attempt": 1,
        "trust": Trust.TRUSTED,
        "limits": Limits(),
    }
    return plan_integration(resolved, **{**given, **changes})


class TestPlan:
    """Pure: what becomes of a resolved model."""

    def test_seamless_services_get_their_digest_and_the_evidence_says_which(self, write_tree: WriteTree) -> None:
        resolved = {
            "services": {
                "payments-api": {"image": "payments:dev", "build": {"context": "/x"}, "pull_policy": "always"},
                "cart": {"image": "cart:dev", "depends_on": ["db"]},
                "db": {"image": "postgres:16"},
                "tests": {"image": "t", "depends_on": {"cart": {"condition": "service_healthy", "required": True}}},
            }
        }
        named = find_peers(resolved["services"], {"payments-api": "payment"}, ["payment", "cart", "mail"])
        planned = plan(resolved, write_tree({}), named=named, images={"payment": CANDIDATE, "cart": DEPLOYED})
        services = planned.model["services"]
        assert services["payments-api"]["image"] == CANDIDATE.ref.digest
        assert "build" not in services["payments-api"]
        assert "pull_policy" not in services["payments-api"]
        assert services["cart"]["image"] == f"r.example/cart@{DEPLOYED.ref.digest}"
        assert services["cart"]["depends_on"] == {"db": {"condition": "service_started"}}
        assert planned.waits_for == {"cart": "service_healthy"}
        assert planned.peers == (
            Peer("payments-api", "payment", "c" * 40, CANDIDATE.ref.digest, "candidate"),
            Peer("cart", "cart", "d" * 40, DEPLOYED.ref.digest, "production"),
            Peer("db", None, None, None, "file"),
            Peer("tests", None, None, None, "file"),
        )

    def test_a_service_without_any_image_keeps_the_files_or_is_named(self, write_tree: WriteTree) -> None:
        resolved: dict[str, Any] = {"services": {"cart": {"image": "cart:dev"}, "tests": {"image": "t"}}}
        planned = plan(resolved, write_tree({}), named={"cart": "cart"})
        assert planned.model["services"]["cart"]["image"] == "cart:dev"
        assert planned.peers[0] == Peer("cart", "cart", None, None, "file")
        with pytest.raises(StageError, match="cart has no image to test against"):
            plan({"services": {**resolved["services"], "cart": {}}}, write_tree({}), named={"cart": "cart"})

    def test_a_map_must_name_what_is_there(self) -> None:
        with pytest.raises(StageError, match="names pay, which the Compose file does not have"):
            find_peers(["api"], {"pay": "payment"}, ["payment"])

    def test_the_test_service_must_be_there(self, write_tree: WriteTree) -> None:
        with pytest.raises(StageError, match="has no service tests"):
            plan({"services": {"db": {"image": "x"}}}, write_tree({}))

    def test_nothing_collides_with_another_run_or_the_host(self, write_tree: WriteTree) -> None:
        resolved = {
            "name": "shop",
            "services": {
                "tests": {
                    "image": "t",
                    "container_name": "tests",
                    "ports": ["80:80"],
                    "restart": "always",
                    "networks": {"default": None},
                    "logging": {"driver": "syslog"},
                }
            },
            "networks": {"default": {"name": "shop_default", "ipam": {}}, "unused": {"name": "u"}},
            "volumes": {"data": {"name": "shop_data"}},
        }
        planned = plan(resolved, write_tree({}))
        labels = {
            "io.seamless.installation": "0badcafe",
            "io.seamless.run": "payment-7",
            "io.seamless.stage": "integration_test",
            "io.seamless.role": "compose",
        }
        tests = planned.model["services"]["tests"]
        assert not {"container_name", "ports", "restart"} & set(tests)
        assert tests["labels"] == labels
        assert tests["logging"]["driver"] == "json-file"
        assert planned.model["networks"] == {"default": {"labels": labels}}
        assert planned.model["volumes"] == {"data": {"labels": labels}}
        assert {"name", "version"} & set(planned.model) == set()

    def test_an_image_that_is_built_has_no_name_of_the_files_choosing(self, write_tree: WriteTree) -> None:
        checkout = write_tree({"Dockerfile": "FROM scratch\n"})
        build = {"context": str(checkout), "args": {"A": "1", "BUILDKIT_CACHE_MOUNT_NS": "x"}, "tags": ["node:20"]}
        planned = plan({"services": {"tests": {"image": "node:20", "build": build}}}, checkout)
        tests = planned.model["services"]["tests"]
        assert "image" not in tests
        assert tests["build"] == {
            "context": str(checkout),
            "dockerfile": str(checkout / "Dockerfile"),
            "args": {"A": "1", "BUILDKIT_CACHE_MOUNT_NS": "seamless-0badcafe-payment-trusted"},
        }
        assert planned.built == ("tests",)

    def test_limits_only_get_lower(self, write_tree: WriteTree) -> None:
        limits = Limits(cpus=1.0, memory=2**30, pids=100)

        def confined(**service: Any) -> tuple[Any, ...]:
            planned = plan({"services": {"tests": {"image": "t", **service}}}, write_tree({}), limits=limits)
            tests = planned.model["services"]["tests"]
            return tests["mem_limit"], tests["memswap_limit"], tests["cpus"], tests["pids_limit"]

        assert confined() == (2**30, 2**30, 1.0, 100)
        assert confined(mem_limit="64m", cpus="0.5", pids_limit=7) == (2**26, 2**26, 0.5, 7)
        assert confined(mem_limit="9g", cpus=64, pids_limit=-1) == (2**30, 2**30, 1.0, 100)
        asked = {"resources": {"limits": {"memory": "64M", "cpus": "0.25"}}}
        assert confined(deploy=asked) == (2**26, 2**26, 0.25, 100)

    def test_confinement_is_not_the_files_to_loosen(self, write_tree: WriteTree) -> None:
        services = {"tests": {"image": "t", "init": False, "cap_drop": ["chown"]}, "db": {"image": "d"}}
        written = plan({"services": services}, write_tree({})).model["services"]
        assert written["tests"]["init"] is False
        assert written["tests"]["cap_add"] == ["DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]
        assert written["db"]["init"] is True
        assert written["db"]["cap_drop"] == ["ALL"]
        assert written["db"]["security_opt"] == ["no-new-privileges:true"]

    def test_a_folder_of_the_checkout_is_mounted_read_only_and_that_is_said(self, write_tree: WriteTree) -> None:
        checkout = write_tree({"a$b/x": ""})
        volumes = [f"{checkout}/a$$b:/app", "data:/d:ro", "/anonymous"]
        planned = plan({"services": {"tests": {"image": "t", "volumes": volumes}}, "volumes": {"data": None}}, checkout)
        assert planned.model["services"]["tests"]["volumes"] == [
            {"type": "bind", "source": f"{checkout}/a$$b", "target": "/app", "read_only": True},
            {"type": "volume", "source": "data", "target": "/d", "read_only": True},
            {"type": "volume", "target": "/anonymous"},
        ]
        assert planned.notes == ("tests: a$b of the checkout is mounted read-only at /app",)

    def test_only_what_has_no_profile_or_is_needed_is_started(self, write_tree: WriteTree) -> None:
        resolved = {
            "services": {
                "tests": {"image": "t", "depends_on": ["api"], "profiles": ["test"]},
                "api": {"image": "a", "profiles": ["test"], "links": ["db:database"]},
                "db": {"image": "d", "profiles": ["x"]},
                "always": {"image": "w", "network_mode": "service:side"},
                "side": {"image": "s", "profiles": ["x"]},
                "debug": {"image": "g", "profiles": ["debug"]},
                "report": {"image": "r", "depends_on": {"tests": {"condition": "service_completed_successfully"}}},
            }
        }
        planned = plan(resolved, write_tree({}))
        assert planned.others == ("api", "db", "always", "side")
        assert planned.notes == ("report waits for tests: left out",)

    def test_project_names_of_different_attempts_differ(self) -> None:
        names = {
            project_name("i", run, attempt) for run, attempt in (("a-1", 1), ("a-11", 1), ("a-1-1", 1), ("a-1", 11))
        }
        assert len(names) == 4
