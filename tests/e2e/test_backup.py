"""A backup of an agent that works, restored on a host that has lost everything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from e2e.conftest import Shop
from harness.engine import remove_everything

pytestmark = pytest.mark.engine

SECRET = "hunter2-is-no-password"
SERVICE = """
unit_test = "echo begun; echo $TOKEN; [ ! -e wait ] || sleep 100000"
secrets = { TOKEN = { env = "SHOP_TOKEN" } }
"""


def test_backup_of_a_live_agent_and_restore(shop: Shop, tmp_path: Path) -> None:
    agent = shop.agent
    shop.configure(SERVICE)
    agent.start(SHOP_TOKEN=SECRET)
    assert agent.run("web")["state"] == "awaiting_approval"
    shop.commit({"wait": "yes"})
    agent.client.start_run("web", checks=True)
    agent.wait_log("web-2", "unit_test", "begun")

    file = tmp_path / "b.tar.gz"
    done = agent.cli("backup", str(file))
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout
    assert agent.cli("backup", str(file)).returncode == 5
    assert agent.cli("backup", "/proc/b.tar.gz").returncode == 2
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xzf", str(file), "-C", str(unpacked)], check=True)
    for path in unpacked.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), f"the secret is in {path}"
    assert b"SHOP_TOKEN" in (unpacked / "config.toml").read_bytes()

    running = agent.cli("restore", str(file))
    assert (running.returncode, "the agent runs" in running.stderr) == (5, True)
    agent.kill()
    remove_everything(agent.installation)
    shutil.rmtree(agent.data_dir)
    done = agent.cli("restore", str(file))
    assert done.returncode == 0, done.stderr
    left = agent.data_dir / "work/backup-0123456789abcdef.db"  # by an agent that died while it made one
    left.parent.mkdir(exist_ok=True)
    left.touch()
    agent.start(SHOP_TOKEN=SECRET)
    assert "begun" in agent.read_log("web-1", "unit_test")
    lost = agent.wait_run("web-2", ["cancelled"])
    assert lost["reason"] == "it was under way when the backup was made that was restored"
    assert agent.client.run("web-1")["state"] == "awaiting_approval"
    shop.commit({"wait": None})
    assert agent.run("web")["id"] == "web-3", "numbers are used again"
    assert [
        event["name"] for event in agent.client.events(kind="action") if event["name"] in ("backup", "restore")
    ] == [
        "backup",
        "restore",
    ]
    assert not (agent.data_dir / "restored.json").exists()
    assert not left.exists()
    assert oct(os.stat(file).st_mode & 0o777) == "0o600"
