"""Reports of tests, which a hostile service may have made."""

from __future__ import annotations

from pathlib import Path

from seamless.stages.checks import _summarise

_REPORT = '<testsuite><testcase name="one"/></testsuite>'


def test_no_link_in_the_workspace_shows_a_file_of_the_host(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "report.xml").write_text(_REPORT)
    workspace = tmp_path / "workspace"
    (workspace / "reports").mkdir(parents=True)
    (workspace / "link.xml").symlink_to(outside / "report.xml")
    (workspace / "folder").symlink_to(outside)
    (workspace / "loop.xml").symlink_to("loop.xml")
    found = _summarise(workspace, ["*.xml", "folder/*.xml", "../outside/*.xml", "**/*.xml"])
    assert found == {
        "tests_note": "unit_test wrote no file that matches *.xml, folder/*.xml, ../outside/*.xml, **/*.xml"
    }
    (workspace / "reports/own.xml").write_text(_REPORT)
    assert _summarise(workspace, ["**/*.xml"])["tests"]["tests"] == 1
