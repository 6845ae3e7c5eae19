"""The build host's template: what AWS's schemas say of it, and its user data, run in a Debian of its own."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import lint as cfn_lint
from hypothesis import given
from hypothesis import strategies as st

from harness.chroot import Chroot, debian, needs_chroot
from harness.engine import docker, remove_everything
from seamless.aws.build_host import render, user_data
from seamless.aws.permissions import PERMISSIONS

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "src/seamless/aws/build_host.sh"
VOLUME = "vol-0123456789abcdef0"
DEVICE = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0"


def resources() -> dict[str, Any]:
    found: dict[str, Any] = render()["Resources"]
    return found


def test_the_template_is_what_aws_accepts() -> None:
    regions = ["eu-central-1", "us-east-1"]
    assert [str(found) for found in cfn_lint(json.dumps(render()), regions=regions)] == []
    broken = render()
    broken["Resources"]["Host"]["Properties"]["MetadataOptions"]["HttpToken"] = "required"
    assert cfn_lint(json.dumps(broken), regions=regions)


def test_it_is_small_enough_to_be_sent() -> None:
    assert len(json.dumps(render(), indent=2)) < 51_200, "CloudFormation's limit of a template that is not in S3"
    values = dict.fromkeys(("SOURCE", "REGION", "TARGET", "VOLUME", "WEBHOOK_HOST", "SSM_AGENT"), "x" * 250)
    text = "".join(user_data({**values, "SIGNAL_URL": "x" * 1500}))
    assert len(text) < 16_384, "EC2's limit of user data"
    policies = json.dumps(resources()["Role"]["Properties"]["Policies"], separators=(",", ":"))
    assert len(policies) < 10_240, "IAM's limit of the policies in a role"


def test_nobody_gets_in_and_containers_get_no_credentials() -> None:
    found = resources()
    ingress = found["Group"]["Properties"]["SecurityGroupIngress"]
    assert ingress["Fn::If"][0] == "HasWebhooks"
    assert [rule["FromPort"] for rule in ingress["Fn::If"][1]] == [443]
    assert ingress["Fn::If"][2] == []
    host = found["Host"]["Properties"]
    assert host["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert "KeyName" not in host
    assert host["BlockDeviceMappings"][0]["Ebs"]["Encrypted"]
    assert found["DataVolume"]["Properties"]["Encrypted"]
    assert (found["DataVolume"]["DeletionPolicy"], found["DataVolume"]["UpdateReplacePolicy"]) == ("Snapshot",) * 2


def statements(name: str) -> list[dict[str, Any]]:
    policies = [one.get("Fn::If", [None, one])[1] for one in resources()["Role"]["Properties"]["Policies"]]
    (found,) = (one["PolicyDocument"]["Statement"] for one in policies if one["PolicyName"] == name)
    return list(found)


def test_the_role_may_do_what_the_list_of_permissions_says_and_no_more() -> None:
    def actions(*names: str) -> set[str]:
        return {action for name in names for one in statements(name) for action in one["Action"]}

    def listed(*purposes: str) -> set[str]:
        return {action for one in PERMISSIONS if one.purpose in purposes for action in one.actions}

    assert actions("agent") == listed("host", "images", "secrets", "notify")
    assert actions("deploy") == listed("deploy")
    assert actions("environments") == listed("environments")
    conditions = [one["Fn::If"][0] for one in resources()["Role"]["Properties"]["Policies"] if "Fn::If" in one]
    assert conditions == ["DeploysToEcs", "MakesEnvironments"]


def test_the_role_is_narrowed_to_account_region_clusters_and_secrets() -> None:
    wide = [
        resource
        for name in ("agent", "deploy", "environments")
        for one in statements(name)
        for resource in (one["Resource"] if isinstance(one["Resource"], list) else [one["Resource"]])
        if resource != "*" and ("Fn::Sub" not in resource or ":*:" in resource["Fn::Sub"])
    ]
    assert wide == []
    told = json.dumps(statements("agent") + statements("deploy"))
    assert ":parameter/${SecretNames}" in told
    assert ":secret:${SecretNames}" in told
    assert ":service/${Cluster}/*" in told


@given(st.data())
def test_whatever_the_patterns_let_through_reaches_the_script_as_it_is(data: st.DataObject) -> None:
    parameters = render()["Parameters"]
    values = {
        "SOURCE": data.draw(st.from_regex(parameters["Source"]["AllowedPattern"], fullmatch=True)),
        "WEBHOOK_HOST": data.draw(st.from_regex(parameters["WebhookHost"]["AllowedPattern"], fullmatch=True)),
    }
    text = "".join(user_data(values)).partition("\n# Makes a fresh")[0]
    done = subprocess.run(
        ["bash", "-c", f'{text}\nprintf "%s\\0" "$SOURCE" "$WEBHOOK_HOST"'], capture_output=True, check=True
    )
    assert done.stdout.decode().split("\0")[:2] == list(values.values())


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_accepts_the_script() -> None:
    done = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# -- user data, run


SYSTEMCTL = """\
#!/bin/bash
# Stands in for systemd: writes down what it is asked for, and starts the agent as its unit says.
echo "$*" >>/var/log/systemctl
unit=/etc/systemd/system/seamless.service
case "$*" in
"start seamless.service" | "restart seamless.service")
    user=$(sed -n 's/^User=//p' $unit)
    install -d -o "$user" -g "$user" -m 0750 /run/seamless /var/log/seamless
    install -d -o "$user" -g "$user" -m 0700 /var/lib/seamless
    # shellcheck disable=SC2046
    groups=$user,$(sed -n 's/^SupplementaryGroups=//p' $unit)
    setpriv --reuid "$user" --regid "$user" --groups "$groups" env HOME=/var/lib/seamless XDG_STATE_HOME=/var/log \
        $(sed -n 's/^ExecStart=//p' $unit) >>/var/log/agent 2>&1 </dev/null &
    for _ in {1..300}; do
        if seamless agent status >/dev/null 2>&1; then exit 0; fi
        kill -0 $! 2>/dev/null || break
        sleep 0.2
    done
    tail -n 20 /var/log/agent >&2
    exit 1
    ;;
esac
"""
SSM_AGENT = (
    "Package: amazon-ssm-agent\nVersion: 3.3\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
)


class Outside:
    """What the host reaches over HTTP: a wheel of this checkout, AWS's Session Manager agent, CloudFormation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signals: list[dict[str, Any]] = []
        self.content_types: list[str | None] = []
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
        (wheel,) = folder.glob("*.whl")
        package = folder / "package/DEBIAN"
        package.mkdir(parents=True)
        (package / "control").write_text(SSM_AGENT)
        (folder / "ssm/debian_amd64").mkdir(parents=True)
        target = folder / "ssm/debian_amd64/amazon-ssm-agent.deb"
        subprocess.run(["dpkg-deb", "--build", str(package.parent), str(target)], check=True, capture_output=True)
        outside = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(folder))

            def do_PUT(self) -> None:
                outside.content_types.append(self.headers["Content-Type"])
                outside.signals.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.wheel = f"{self.url}/{wheel.name}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    one = Outside(tmp_path / "outside")
    yield one
    one.close()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[str]:
    """A block device without anything on it."""
    image = tmp_path / "volume.img"
    with image.open("wb") as file:
        file.truncate(2 * 2**30)
    made = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip("this host has no loop devices")
    device = made.stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


def instance(folder: Path, release: str, volume: str) -> Iterator[Chroot]:
    """What EC2 has started: Debian's image, and the data volume attached. Its engine is this host's."""
    installation = ""
    try:
        with debian(folder, release) as chroot:
            stand_in = chroot.root / "usr/local/bin/systemctl"
            stand_in.write_text(SYSTEMCTL)
            stand_in.chmod(0o755)
            chroot.run("mkdir", "-p", "/run/systemd/system")  # booted, as sd_booted(3) sees it
            (chroot.root / "etc/fstab").write_text("# of the image\n")
            gid = os.stat("/var/run/docker.sock").st_gid
            chroot.run("groupadd", "--gid", str(gid), "docker").check_returncode()
            chroot.bind("/var/run/docker.sock", "/run/docker.sock")
            chroot.bind(volume, f"/dev/{Path(volume).name}")
            script = f"mkdir -p {Path(DEVICE).parent} && ln -s /dev/{Path(volume).name} {DEVICE}"
            chroot.run("sh", "-c", script).check_returncode()
            try:
                yield chroot
            finally:
                read = chroot.run("cat", "/var/lib/seamless/installation")
                installation = read.stdout.strip() if read.returncode == 0 else ""
    finally:
        if installation:  # its agent has ended now
            label = f"label=io.seamless.installation={installation}"
            helpers = docker("container", "ls", "--all", "--filter", label, "--format", "{{.Image}}").split()
            remove_everything(installation)
            for image in set(helpers):
                docker("image", "rm", image, check=False)  # an agent of this host may use the same


@pytest.mark.exhaustive
@pytest.mark.engine
@pytest.mark.fake
@needs_chroot
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("port 8787")  # one at a time: the host has one port for webhooks
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_user_data_makes_a_build_host(tmp_path: Path, outside: Outside, volume: str, release: str) -> None:
    """In a Debian without systemd and kernel: what only a real boot proves is listed in docs/build-host.md."""
    values = {
        "SOURCE": f"{outside.url}/gone-1.0-py3-none-any.whl",
        "REGION": "eu-central-1",
        "TARGET": "docker",
        "VOLUME": VOLUME,
        "WEBHOOK_HOST": "ci.acme.example",
        "SSM_AGENT": f"{outside.url}/ssm",
        "SIGNAL_URL": f"{outside.url}/signal",
    }
    for chroot in instance(tmp_path / "host", release, volume):

        def boot(chroot: Chroot = chroot) -> subprocess.CompletedProcess[str]:
            part = chroot.root / "var/lib/part-001"
            part.write_text("".join(user_data(values)))
            part.chmod(0o755)
            return chroot.run("/var/lib/part-001")

        failed = boot()
        assert failed.returncode != 0
        (signal,) = outside.signals
        assert signal["Status"] == "FAILURE"
        assert signal["Reason"].startswith(f"installing Seamless from {values['SOURCE']}; see /var/log/")

        values["SOURCE"] = outside.wheel
        done = boot()
        assert done.returncode == 0, done.stdout
        assert (outside.signals[1]["Status"], len(outside.signals)) == ("SUCCESS", 2), done.stdout
        assert outside.content_types == ["", ""]
        status = json.loads(chroot.run("seamless", "agent", "status", "--json").stdout)
        assert status["ready"]
        assert status["config_error"] is None
        examined = json.loads(chroot.run("seamless", "doctor", "--json").stdout)
        wrong = [one["what"] for one in examined if one["level"] == "error"]
        assert wrong == ["AWS: no credentials were found"]  # which the host's role gives it
        asked = (chroot.root / "var/log/systemctl").read_text().splitlines()
        started = [line for line in asked if line.startswith(("start", "restart", "enable"))]
        assert started[0] == started[1] == "enable --now amazon-ssm-agent"
        assert started[2:] == ["enable seamless.service", "start seamless.service", "restart caddy"]

        mounted = chroot.run("findmnt", "--raw", "--noheadings", "-o", "TARGET,FSTYPE").stdout.split("\n")
        assert {"/srv/seamless ext4", "/etc/seamless ext4", "/var/lib/seamless ext4"} <= set(mounted)
        table = (chroot.root / "etc/fstab").read_text()
        assert chroot.run("findmnt", "--verify", "--tab-file", "/etc/fstab").returncode == 0

        (chroot.root / "var/log/systemctl").unlink()
        marker = chroot.run("sh", "-c", "echo kept >/var/lib/seamless/marker; cat /etc/seamless/config.toml").stdout
        again = boot()
        assert again.returncode == 0, again.stdout
        assert (chroot.root / "etc/fstab").read_text() == table
        assert chroot.run("cat", "/etc/seamless/config.toml", "/var/lib/seamless/marker").stdout == f"{marker}kept\n"
        assert outside.signals[2]["Status"] == "SUCCESS"
