"""The checklist of Home Assistant's quality scale is complete, and what it calls done can be looked up."""

from pathlib import Path
import re
from typing import Any

import homeassistant.components
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
SCALE = REPOSITORY / "custom_components" / "nemotron_security" / "quality_scale.yaml"
RULES: dict[str, Any] = yaml.safe_load(SCALE.read_text())["rules"]


def test_all_rules_of_home_assistant_are_there() -> None:
    """Home Assistant's own integrations carry the whole list."""
    theirs = Path(homeassistant.components.__path__[0]) / "peblar" / "quality_scale.yaml"
    assert len(RULES) == 54
    assert list(RULES) == list(yaml.safe_load(theirs.read_text())["rules"])


@pytest.mark.parametrize(("rule", "entry"), RULES.items())
def test_rule_has_a_status_and_evidence(rule: str, entry: dict[str, str]) -> None:
    assert set(entry) == {"status", "comment"}
    assert entry["status"] in ("done", "todo", "exempt")
    assert entry["comment"].strip()
    if entry["status"] == "done":
        evidence = re.findall(r"[\w./-]+\.(?:py|md|json|png|toml)\b", entry["comment"])
        assert evidence, f"{rule} names no file"
        assert [name for name in evidence if not (REPOSITORY / name).is_file()] == []
