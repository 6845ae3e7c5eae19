"""The example and the generated pages say what the models and the transition table say."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from seamless.config import aws, load_config, models, secret
from seamless.config.models import Document
from seamless.config.schema import item_of, table_of
from seamless.config.table import Table
from seamless.transitions import DEPLOYMENT_TRANSITIONS, RUN_TRANSITIONS, STAGE_TRANSITIONS

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.toml"


# The tables that people write.
WRITTEN: set[type[Table]] = {kind for kind in Table.__subclasses__() if kind is not models.DeployParameters}
WRITTEN |= {secret.Secret, aws.EnvironmentSettings, aws.EcsSettings}


def shown_keys(annotation: Any, written: Any, seen: dict[type[Table], set[str]]) -> None:
    """Adds to `seen` which keys of which table `written` uses."""
    table = table_of(annotation)
    if table is not None:
        seen[table] |= set(written)
        for key, value in written.items():
            shown_keys(table.model_fields[key].annotation, value, seen)
    elif isinstance(written, dict):
        for value in written.values():
            shown_keys(item_of(annotation), value, seen)


def test_the_example_is_valid_and_shows_every_key() -> None:
    load_config(EXAMPLE)
    written = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    seen: dict[type[Table], set[str]] = defaultdict(set)
    shown_keys(models.Parameters, written.pop("pipeline"), seen)
    shown_keys(Document, written, seen)
    assert set(seen) == WRITTEN
    assert {table.__name__: sorted(set(table.model_fields) - keys) for table, keys in seen.items()} == {
        table.__name__: [] for table in WRITTEN
    }


def test_every_key_and_table_says_what_it_is_for() -> None:
    for table in WRITTEN:
        assert table.__doc__
        assert [name for name, field in table.model_fields.items() if not field.description] == []


def test_the_generated_pages_are_up_to_date() -> None:
    check = [sys.executable, str(ROOT / "scripts" / "generate-docs"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"run scripts/generate-docs\n{done.stdout}{done.stderr}"


def test_the_page_names_every_key() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for table in WRITTEN - {Document}:
        assert [name for name in table.model_fields if f"| `{name}` |" not in page] == []
    assert [name for name in Document.model_fields if f"[{name}" not in page] == []


def test_the_page_of_states_has_every_row_of_the_table() -> None:
    page = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")
    titles: dict[str, Mapping[Any, StrEnum]] = {
        "Run": RUN_TRANSITIONS,
        "Stage": STAGE_TRANSITIONS,
        "Deployment": DEPLOYMENT_TRANSITIONS,
    }
    for title, transitions in titles.items():
        section = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
        told = {(row[0], event, row[2]) for row in rows if len(row) == 3 for event in row[1].split(", ")}
        assert {(state, event, after) for (state, event), after in transitions.items()} <= told
