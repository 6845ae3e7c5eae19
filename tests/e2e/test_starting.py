"""What keeps an agent from starting is told, changes nothing, and ends with the right code."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from e2e.conftest import Shop
from harness.agents import Agent, stage_of
from harness.repositories import Repository

pytestmark = pytest.mark.engine


def _refused(agent: Agent, **environment: str) -> tuple[int, str]:
    """Runs an agent that must not start: its exit code and last words."""
    done = subprocess.run(
        agent.command("agent", "run"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def test_two_agents_on_one_data_directory(shop: Shop) -> None:
    shop.start()
    assert shop.agent.process is not None
    other = shop.agent.config_file.with_name("other.toml")
    other.write_text(shop.agent.config_file.read_text().replace("agent.sock", "other.sock"))
    command = [*shop.agent.command()[:3], "--config", str(other), "agent", "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 5
    assert f"another agent (pid {shop.agent.process.pid}) uses the data directory" in done.stderr
    assert shop.agent.is_ready()


def test_two_agents_on_one_socket(shop: Shop) -> None:
    shop.start()
    other = shop.agent.config_file.with_name("other.toml")
    other.write_text(shop.agent.config_file.read_text().replace('"data"', '"other"'))
    command = [*shop.agent.command()[:3], "--config", str(other), "agent", "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 5
    assert "another agent listens" in done.stderr
    assert shop.agent.is_ready()


def test_an_agent_of_another_configuration_is_not_taken_for_this_one_s(shop: Shop) -> None:
    shop.start()
    assert shop.agent.process is not None
    assert "running already" in shop.agent.cli("agent", "start").stdout
    other = shop.agent.config_file.with_name("other.toml")
    other.write_text(shop.agent.config_file.read_text())
    command = [*shop.agent.command()[:3], "--config", str(other), "agent", "start"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 5, done
    assert f"has another configuration: {shop.agent.config_file}. Stop it" in done.stderr


def test_a_socket_of_a_dead_agent_is_no_hindrance(shop: Shop) -> None:
    shop.start()
    shop.agent.kill()
    assert shop.agent.socket.exists()
    shop.agent.start()
    assert oct(shop.agent.socket.stat().st_mode & 0o777) == "0o660"
    shop.agent.stop()
    assert not shop.agent.socket.exists()


def test_a_remote_engine_is_refused(shop: Shop) -> None:
    shop.configure()
    code, said = _refused(shop.agent, DOCKER_HOST="tcp://192.0.2.1:2375")
    assert code == 2
    assert "192.0.2.1" in said
    assert "host" in said


def test_an_engine_that_does_not_answer_is_told(shop: Shop, tmp_path: Path) -> None:
    shop.configure()
    code, said = _refused(shop.agent, DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert code == 1
    assert "no.sock" in said


def test_a_newer_database_is_refused_and_kept(shop: Shop) -> None:
    shop.start()
    shop.agent.stop()
    database = shop.agent.data_dir / "seamless.db"
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = database.read_bytes()
    code, said = _refused(shop.agent)
    assert code == 2
    assert "written by a newer Seamless" in said
    assert database.read_bytes() == before


def test_a_damaged_database_is_refused_and_kept(shop: Shop) -> None:
    shop.configure()
    shop.agent.data_dir.mkdir(mode=0o700)
    database = shop.agent.data_dir / "seamless.db"
    database.write_bytes(b"this is not a database, but it may be all that is left of one" * 100)
    code, said = _refused(shop.agent)
    assert code == 2
    assert "restore a backup" in said
    assert database.read_bytes().startswith(b"this is not")
    database.unlink()


def test_a_broken_configuration_is_refused(shop: Shop) -> None:
    shop.configure("unit_tets = 1")
    code, said = _refused(shop.agent)
    assert code == 2
    assert "unit_test" in said


def test_a_data_directory_that_cannot_be_written_is_told(shop: Shop) -> None:
    """By whomever: here by root, whom only a file system that is read-only stops."""
    shop.configure()
    shop.agent.config_file.write_text(
        shop.agent.config_file.read_text().replace('data_dir = "data"', 'data_dir = "/proc/seamless"')
    )
    code, said = _refused(shop.agent)
    assert code == 2
    assert "the data directory /proc/seamless cannot be used" in said
    shop.configure()
    shop.agent.data_dir.write_text("a file")
    code, said = _refused(shop.agent)
    assert code == 2
    assert f"the data directory {shop.agent.data_dir} cannot be used" in said


def test_an_agent_ends_on_a_signal_and_what_ran_is_adopted(shop: Shop) -> None:
    shop.start('unit_test = "echo begun; sleep 4; echo ended"')
    agent = shop.agent
    agent.client.start_run("web", checks=True)
    agent.wait_log("web-1", "unit_test", "begun")
    assert agent.process is not None
    agent.process.send_signal(signal.SIGINT)
    assert agent.process.wait(timeout=60) == 0
    agent.start()
    run = agent.wait_run("web-1")
    assert run["state"] == "success"
    assert stage_of(run, "unit_test")["attempt"] == 1
    log = agent.read_log("web-1", "unit_test")
    assert log.count("begun\n") == log.count("ended\n") == 1


def test_git_that_is_gone_or_strange_is_told_by_the_run_command(shop: Shop, tmp_path: Path) -> None:
    shop.start()
    for ref, words in (("no-such-branch", "no-such-branch"), ("f" * 40, "ffffff"), ("--upload-pack=x", "upload-pack")):
        done = shop.agent.cli("run", "web", f"--ref={ref}")
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert shop.agent.client.runs() == []
    shutil.rmtree(shop.repository.path)
    done = shop.agent.cli("run", "web")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    Repository(shop.repository.path).commit({"a": "b"})
    assert shop.agent.cli("run", "nothing").returncode == 2
