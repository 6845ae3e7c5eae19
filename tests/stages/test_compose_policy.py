"""Hostile and honest Compose files: what is refused, how it is said, and what stays as it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from seamless.errors import StageError
from seamless.model import Trust
from seamless.stages.checkout import OutsideCheckoutError, resolve_inside
from seamless.stages.compose_file import read_compose_file
from seamless.stages.compose_policy import Policy, check_model
from seamless.stages.compose_values import parse_bytes, parse_volume

from .conftest import WriteTree

TODAY = (2, 40, 0)
OLD = (1, 29, 2)

LAUGHS = "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True))

HOSTILE_SERVICES: list[tuple[dict[str, Any], str]] = [
    ({"privileged": True}, "privileged: is root on this host"),
    ({"network_mode": "host"}, "network_mode host: only none and the project's own services"),
    ({"network_mode": "bridge"}, "network_mode bridge:"),
    ({"network_mode": "container:abc"}, "network_mode container:abc:"),
    ({"pid": "host"}, "pid host:"),
    ({"pid": "container:abc"}, "pid container:abc:"),
    ({"ipc": "host"}, "ipc host:"),
    ({"userns_mode": "host"}, "userns_mode: would reach into this host"),
    ({"uts": "host"}, "uts: would reach into this host"),
    ({"cgroup": "host"}, "cgroup: would reach into this host"),
    ({"devices": ["/dev/sda:/dev/sda"]}, "devices: would reach into this host"),
    ({"device_cgroup_rules": ["c 1:3 mr"]}, "device_cgroup_rules:"),
    ({"gpus": "all"}, "gpus:"),
    ({"cap_add": ["CHOWN", "SYS_ADMIN"]}, "cap_add SYS_ADMIN: only CHOWN"),
    ({"cap_add": ["ALL"]}, "cap_add ALL:"),
    ({"cap_add": ["CAP_NET_ADMIN"]}, "cap_add CAP_NET_ADMIN:"),
    ({"security_opt": ["seccomp:unconfined"]}, "security_opt seccomp:unconfined:"),
    ({"security_opt": ["no-new-privileges:false"]}, "security_opt no-new-privileges:false:"),
    ({"security_opt": ["label=disable", "apparmor=unconfined"]}, "security_opt apparmor=unconfined:"),
    ({"sysctls": {"net.core.somaxconn": 1}}, "sysctls:"),
    ({"runtime": "evil"}, "runtime:"),
    ({"cgroup_parent": "/"}, "cgroup_parent:"),
    ({"volumes_from": ["container:agent"]}, "volumes_from:"),
    ({"external_links": ["db"]}, "external_links:"),
    ({"extra_hosts": ["h:host-gateway"]}, "extra_hosts h:host-gateway:"),
    ({"extra_hosts": {"h": "host-gateway"}}, "extra_hosts h:host-gateway:"),
    ({"credential_spec": {"file": "x"}}, "credential_spec:"),
    ({"use_api_socket": True}, "use_api_socket: would hand over the engine's socket"),
    ({"provider": {"type": "sh"}}, "provider: would run a program on this host"),
    ({"oom_score_adj": -1000}, "oom_score_adj: is not among the keys"),
    ({"oom_kill_disable": True}, "oom_kill_disable: is not among the keys"),
    ({"storage_opt": {"size": "1G"}}, "storage_opt: is not among the keys"),
    ({"something_new": {"a": 1}}, "something_new: is not among the keys"),
    ({"labels": {"io.seamless.run": "payment-1"}}, "labels io.seamless.run:"),
    ({"labels": ["com.docker.compose.project=other"]}, "labels com.docker.compose.project=other:"),
    ({"scale": 1000}, "scale 1000: at most 10"),
    ({"deploy": {"replicas": 11}}, "deploy.replicas 11: at most 10"),
    ({"deploy": {"resources": {"reservations": {"devices": [{}]}}}}, "deploy.resources.reservations.devices:"),
    ({"deploy": {"new": 1}}, "deploy.new: is not among the keys"),
    ({"networks": {"default": {"ipv4_address": "10.0.0.2"}}}, "networks.default.ipv4_address: a fixed address"),
    ({"networks": {"default": {"driver_opts": {"a": "b"}}}}, "networks.default.driver_opts:"),
    ({"post_start": [{"command": "x", "privileged": True}]}, "post_start.privileged:"),
    ({"volumes": ["/var/run/docker.sock:/s:ro"]}, "and is a socket that is root on this host"),
    ({"volumes": ["/:/host"]}, "volumes: / leads out of the checkout"),
    ({"volumes": ["../x:/host"]}, "volumes: ../x leads out of the checkout"),
    ({"volumes": [{"type": "bind", "source": "/etc", "target": "/e"}]}, "volumes: /etc leads out"),
    ({"volumes": [{"type": "npipe", "source": "x", "target": "/e"}]}, "a mount of type npipe"),
    ({"volumes": [{"type": "cluster", "source": "x", "target": "/e"}]}, "a mount of type cluster"),
    ({"volumes": ["INSIDE/src:/x:rshared"]}, "the option rshared is not allowed"),
    (
        {"volumes": [{"type": "bind", "source": "INSIDE/src", "target": "/x", "bind": {"propagation": "shared"}}]},
        "propagation shared",
    ),
    ({"volumes": ["INSIDE/outside:/x"]}, "leads out of the checkout"),
    ({"volumes": ["INSIDE/nothere:/x"]}, "nothere is not in the checkout"),
    ({"build": {"context": "/etc"}}, "build: /etc leads out of the checkout"),
    ({"build": {"context": "https://example.com/x.git"}}, "is not in the checkout"),
    ({"build": {"context": "INSIDE", "dockerfile": "../../etc/passwd"}}, "build: "),
    ({"build": {"context": "INSIDE", "dockerfile": "outside"}}, "leads out of the checkout"),
    ({"build": {"context": "INSIDE", "network": "host"}}, "build.network: would reach into this host"),
    ({"build": {"context": "INSIDE", "privileged": True}}, "build.privileged: would reach into this host"),
    ({"build": {"context": "INSIDE", "entitlements": ["security.insecure"]}}, "build.entitlements:"),
    ({"build": {"context": "INSIDE", "ssh": ["default"]}}, "build.ssh: is not among the keys"),
    ({"build": {"context": "INSIDE", "additional_contexts": {"a": "/etc"}}}, "build.additional_contexts:"),
    ({"build": {"context": "INSIDE", "extra_hosts": ["a:host-gateway"]}}, "build.extra_hosts a:host-gateway:"),
    ({"build": {"context": "INSIDE", "dockerfile_inline": "# syntax=evil/x\nFROM a"}}, "syntax=evil/x is not allowed"),
]
HOSTILE_SECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"networks": {"n": {"external": True}}}, "networks.n.external: would reach what is not this project's"),
    ({"networks": {"n": {"external": {"name": "bridge"}}}}, "networks.n.external:"),
    ({"networks": {"n": {"driver": "host"}}}, "networks.n.driver host:"),
    ({"networks": {"n": {"driver": "macvlan"}}}, "networks.n.driver macvlan:"),
    ({"networks": {"n": {"driver_opts": {"com.docker.network.bridge.name": "docker0"}}}}, "networks.n.driver_opts:"),
    ({"networks": {"n": {"ipam": {"config": [{"subnet": "10.0.0.0/8"}]}}}}, "networks.n.ipam.config: a fixed subnet"),
    ({"volumes": {"v": {"driver_opts": {"type": "none", "o": "bind", "device": "/"}}}}, "volumes.v.driver_opts: can"),
    ({"volumes": {"v": {"driver": "evil"}}}, "volumes.v.driver evil:"),
    ({"volumes": {"v": {"external": True}}}, "volumes.v.external:"),
    ({"secrets": {"s": {"file": "/etc/shadow"}}}, "secrets.s.file: /etc/shadow leads out of the checkout"),
    ({"secrets": {"s": {"environment": "AWS_SECRET"}}}, "secrets.s.environment:"),
    ({"secrets": {"s": {"external": True}}}, "secrets.s.external:"),
    ({"configs": {"c": {"file": "/etc/shadow"}}}, "configs.c.file:"),
    ({"configs": {"c": {"environment": "PATH"}}}, "configs.c.environment:"),
    ({"models": {"m": {}}}, "models: is not among the keys"),
]


def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "src").mkdir(parents=True)
    (root / "Dockerfile").write_text("FROM scratch\n")
    (root / "token").write_text("t")
    (root / "outside").symlink_to("/etc/passwd")
    return root


def placed(value: Any, root: Path) -> Any:
    """INSIDE in a table's strings stands for the checkout: Compose makes paths absolute."""
    return yaml.safe_load(yaml.safe_dump(value).replace("INSIDE", str(root)))


def problems(model: Mapping[str, Any], root: Path, trust: Trust = Trust.REPOSITORY) -> list[str]:
    return check_model(placed(dict(model), root), Policy(root, trust))


@pytest.mark.parametrize(("service", "why"), HOSTILE_SERVICES, ids=lambda value: str(value)[:50])
def test_a_hostile_service_is_refused_by_name(service: dict[str, Any], why: str, tmp_path: Path) -> None:
    found = problems({"services": {"db": {"image": "x", **service}}}, checkout(tmp_path))
    assert found, "nothing was refused"
    assert all(problem.startswith("services.db.") for problem in found)
    assert any(why in problem for problem in found), found


@pytest.mark.parametrize(("sections", "why"), HOSTILE_SECTIONS, ids=lambda value: str(value)[:50])
def test_a_hostile_section_is_refused_by_name(sections: dict[str, Any], why: str, tmp_path: Path) -> None:
    found = problems({"services": {"db": {"image": "x"}}, **sections}, checkout(tmp_path))
    assert len(found) == 1
    assert why in found[0]


def test_everything_is_told_at_once(tmp_path: Path) -> None:
    services = {name: {"privileged": True, "devices": ["/dev/sda"]} for name in ("db", "api")}
    assert len(problems({"services": services, "models": {"m": {}}}, checkout(tmp_path))) == 5


def test_honest_files_pass(tmp_path: Path) -> None:
    model = {
        "version": "3.8",
        "name": "shop",
        "x-common": {"privileged": True},
        "services": {
            "db": {
                "image": "postgres:16",
                "container_name": "db",
                "environment": {"A": "1", "B": None},
                "healthcheck": {"test": ["CMD", "true"], "start_interval": "1s"},
                "ports": [{"published": 5432, "target": 5432}],
                "restart": "always",
                "volumes": ["data:/var/lib/postgresql", "INSIDE/src:/init:ro", "/anonymous"],
                "tmpfs": ["/run"],
                "ulimits": {"nofile": 100},
                "deploy": {"replicas": 2, "resources": {"limits": {"memory": "50M"}}, "placement": {}},
                "networks": {"default": {"aliases": ["database"]}, "back": None},
                "secrets": [{"source": "token"}],
                "cap_add": ["chown"],
                "cap_drop": ["ALL"],
                "security_opt": ["no-new-privileges=true"],
                "privileged": False,
                "command": None,
                "develop": {"watch": []},
            },
            "tests": {
                "build": {"context": "INSIDE", "args": {"A": "1"}, "target": "t", "cache_from": ["x"], "tags": ["y"]},
                "depends_on": {"db": {"condition": "service_healthy", "required": True}},
                "network_mode": "service:db",
                "extra_hosts": ["a:10.0.0.1"],
                "volumes": [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": "1000"}}],
            },
        },
        "networks": {"default": {"name": "shop_default", "ipam": {}}, "back": {"driver": "bridge", "internal": True}},
        "volumes": {"data": {"name": "shop_data"}, "other": None},
        "secrets": {"token": {"name": "shop_token", "file": "INSIDE/token"}},
        "configs": {"c": {"content": "x"}},
    }
    assert problems(model, checkout(tmp_path)) == []


def test_the_build_of_a_replaced_service_is_moot(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    model = {"services": {"api": {"build": {"context": "/elsewhere/api"}}}}
    assert check_model(model, Policy(root, Trust.TRUSTED))
    assert check_model(model, Policy(root, Trust.TRUSTED, frozenset({"api"}))) == []


class TestRawFile:
    """What Compose would read before it could be asked for the resolved model."""

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("services: {a: {env_file: /etc/passwd}}", "services.a.env_file: '/etc/passwd' leads out of the checkout"),
            ("services: {a: {env_file: [x, ../../y]}}", "services.a.env_file: '../../y' leads out"),
            ("services: {a: {env_file: [{path: /etc/passwd, required: false}]}}", "'/etc/passwd' leads out"),
            ("services: {a: {env_file: '${X:-/etc/passwd}'}}", "must be a plain path"),
            ("services: {a: {env_file: ~/x}}", "must be a plain path"),
            ("services: {a: {env_file: linked}}", "'linked' leads out of the checkout, by a symbolic link"),
            ("services: {a: {env_file: folder/../x}}", 'goes up ("..") from a symbolic link'),
            ("services: {a: {label_file: /etc/passwd}}", "services.a.label_file"),
            ("services: {a: {extends: {file: /etc/x.yml, service: a}}}", "services.a.extends.file"),
            ("services: {a: {extends: {file: sub/base.yml, service: b}}}", "sub/base.yml: services.b.env_file"),
            ("include: [sub/base.yml]\nservices: {a: {image: x}}", "sub/base.yml: services.b.env_file"),
            ("include: ['https://evil/x.git']\nservices: {a: {image: x}}", "include.path: must be a plain path"),
            ("include: [{path: sub/ok.yml, project_directory: /}]\nservices: {}", "include.project_directory: '/'"),
            ("include: [{path: sub/up.yml, project_directory: .}]\nservices: {}", "sub/up.yml: services.b.env_file"),
            ("include: [{path: sub/ok.yml, env_file: /etc/e}]\nservices: {}", "include.env_file: '/etc/e'"),
            ("include: [envlink/ok.yml]\nservices: {}", "include's .env: '.env' leads out of the checkout"),
        ],
    )
    def test_paths_are_followed_before_compose_does(self, write_tree: WriteTree, content: str, why: str) -> None:
        tree = write_tree(
            {
                "compose.yml": content,
                "sub/base.yml": "services: {b: {image: x, env_file: ../../outside}}",
                "sub/up.yml": "services: {b: {image: x, env_file: ../x}}",
                "sub/ok.yml": "services: {b: {image: x}}",
                "envlink/ok.yml": "services: {b: {image: x}}",
                "deep/er/x": "",
            }
        )
        (tree / "linked").symlink_to("/etc/passwd")
        (tree / "folder").symlink_to("deep/er")
        (tree / "envlink/.env").symlink_to("/etc/passwd")
        with pytest.raises(StageError) as error:
            read_compose_file(tree, "compose.yml", version=TODAY)
        assert why in error.value.message

    def test_files_that_lead_in_circles_end(self, write_tree: WriteTree) -> None:
        tree = write_tree({"sub/c.yml": "include: [c.yml]\nservices: {a: {extends: {file: c.yml, service: b}}, b: {}}"})
        assert read_compose_file(tree, "c.yml", folder="sub", version=TODAY).services == ("a", "b")

    @pytest.mark.parametrize("name", ["nothere.yml", "../compose.yml", "/etc/compose.yml", "linked"])
    def test_the_file_itself_is_in_the_checkout(self, write_tree: WriteTree, name: str) -> None:
        tree = write_tree({"a/x": ""})
        (tree / "linked").symlink_to("/etc/hosts")
        with pytest.raises(StageError, match="Compose file"):
            read_compose_file(tree, name, version=TODAY)

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + LAUGHS, "too large once its aliases are written out"),
            ("a: &a [*a]\n", "an alias contains itself"),
            ("services: {a: {image: x, image: y}}", "the key image is there twice"),
            ("services: {a: {? [x] : y}}", "a key is not plain text"),
            ("services: {}\n---\nservices: {}\n", "is not YAML"),
            ("services: [\n", "is not YAML: line 2"),
            ("[" * 20_000, "is nested too deeply"),
            ("- a\n", "holds no table of services"),
            ("", "holds no table of services"),
            ("services: !!python/object/apply:os.system [id]", "is not YAML"),
            ("#" * 600_000, "is larger than 512 KiB"),
            ("a: \x00", "is not YAML"),
        ],
        ids=lambda value: value[:30],
    )
    def test_yaml_that_no_honest_file_is(self, write_tree: WriteTree, content: str, why: str) -> None:
        tree = write_tree({"compose.yml": content})
        with pytest.raises(StageError) as error:
            read_compose_file(tree, "compose.yml", version=TODAY)
        assert why in error.value.message

    def test_merges_and_anchors_of_honest_files_work(self, write_tree: WriteTree) -> None:
        content = "x-base: &base {image: x}\nservices:\n  a: {<<: *base}\n  b: {<<: *base, tty: true}\n"
        assert read_compose_file(write_tree({"c.yml": content}), "c.yml", version=OLD).services == ("a", "b")

    @pytest.mark.parametrize(
        ("content", "needs"),
        [
            ("name: shop\nservices: {a: {image: x}}", "name needs Docker Compose 2.3.3 (installed: 1.29.2)"),
            ("services: {a: {image: x, develop: {watch: []}}}", "services.a.develop needs Docker Compose 2.22.0"),
            ("include: [b.yml]\nservices: {a: {image: x}}", "include needs Docker Compose 2.20.0"),
            (
                "services: {a: {depends_on: {b: {required: false}}}}",
                "a.depends_on.b.required needs Docker Compose 2.20",
            ),
            ("services: {a: {image: x, ports: !reset []}}", "!reset needs Docker Compose 2.18.0"),
            ("services: {a: {env_file: [{path: x}]}}", "services.a.env_file.0.path needs Docker Compose 2.24.0"),
            ("services: {a: {build: {dockerfile_inline: FROM x}}}", "dockerfile_inline needs Docker Compose 2.17.0"),
            ("services: {a: {configs: [c]}}\nconfigs: {c: {file: x}}", "services.a.configs needs Docker Compose 2.0.0"),
        ],
    )
    def test_a_newer_key_is_refused_with_the_version_it_needs(
        self, write_tree: WriteTree, content: str, needs: str
    ) -> None:
        tree = write_tree({"c.yml": content, "b.yml": "services: {b: {image: x}}", "x": ""})
        read_compose_file(tree, "c.yml", version=TODAY)
        with pytest.raises(StageError) as error:
            read_compose_file(tree, "c.yml", version=OLD)
        assert needs in error.value.message


NAMES = st.sampled_from([".", "..", "a", "b", "up", "abs", "loop", "~", "", "a b"])


@given(parts=st.lists(NAMES, max_size=6), absolute=st.booleans(), base=st.sampled_from(["", "a", "a/b"]))
def test_no_path_leads_out(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], absolute: bool, base: str
) -> None:
    root = tmp_path_factory.mktemp("hypothesis") / "checkout"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "up").symlink_to("../..")
    (root / "b").symlink_to("a/b")
    (root / "a" / "abs").symlink_to("/etc")
    (root / "loop").symlink_to("loop")
    path = ("/" if absolute else "") + "/".join(parts)
    try:
        real = resolve_inside(root, path, base=root / base)
    except OutsideCheckoutError:
        return
    for followed in (os.path.realpath(root / base / path), os.path.realpath(os.path.normpath(root / base / path))):
        assert Path(followed) == real
        assert real == root or root in real.parents


@given(
    st.text(alphabet="ab/.:$~, rowz", max_size=12)
    | st.dictionaries(st.sampled_from(["type", "source", "target"]), st.text(max_size=5))
)
def test_volumes_are_read_or_refused(entry: object) -> None:
    try:
        volume = parse_volume(entry)
    except StageError:
        return
    assert volume.kind in ("bind", "volume", "tmpfs")
    assert volume.kind == "bind" or not volume.source.startswith(("/", ".")) or isinstance(entry, dict)


def test_sizes_are_read_as_compose_writes_them() -> None:
    sizes = {"512m": 512 * 2**20, "52428800": 52428800, 7: 7, "1.5GB": 3 * 2**29, "1KiB": 1024}
    assert {size: parse_bytes(size) for size in sizes} == sizes
