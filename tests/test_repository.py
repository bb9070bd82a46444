"""The repository keeps its own promises: pins, scripts, links, and nothing of the machine it was written on."""

import json
import os
from pathlib import Path
import re
import subprocess
import tomllib

from PIL import Image
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "custom_components" / "nemotron_security"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
MANIFEST = json.loads((PACKAGE / "manifest.json").read_text())


def tracked() -> list[Path]:
    """Return the files of the repository, new ones included, what git ignores left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = listed.stdout.decode().split("\0")
    return [REPOSITORY / name for name in names if name and (REPOSITORY / name).is_file()]


def test_manifest_and_project_require_the_same() -> None:
    assert MANIFEST["requirements"] == PROJECT["project"]["dependencies"]
    assert MANIFEST["version"] == PROJECT["project"]["version"]


def test_requirements_leave_room_to_home_assistants_pins() -> None:
    assert [requirement for requirement in MANIFEST["requirements"] if "==" in requirement or " " in requirement] == []


def test_manifest_is_in_the_order_of_hassfest() -> None:
    assert list(MANIFEST)[:2] == ["domain", "name"]
    assert list(MANIFEST)[2:] == sorted(list(MANIFEST)[2:])
    assert MANIFEST["domain"] == PACKAGE.name


def test_hacs_asks_for_the_home_assistant_that_is_tested() -> None:
    wanted = json.loads((REPOSITORY / "hacs.json").read_text())
    assert wanted["name"] == MANIFEST["name"]
    assert wanted["homeassistant"].startswith("2026.10.")


def test_every_dependency_says_what_it_is_for() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    required = text[: text.index("[tool.uv]")]
    lines = [line for line in required.splitlines() if re.match(r'  ("|\{)', line)]
    assert len(lines) > 20
    assert [line for line in lines if not re.search(r"# \S", line)] == []


def test_scripts_are_executable_and_strict() -> None:
    scripts = [path for path in (REPOSITORY / "scripts").iterdir() if path.is_file() and path.suffix != ".py"]
    assert {path.name for path in scripts} >= {"demo", "lint", "python", "setup", "test"}
    for script in [*scripts, REPOSITORY / ".ci" / "run"]:
        assert os.access(script, os.X_OK), script
        text = script.read_text()
        assert text.startswith("#!/usr/bin/env bash\n"), script
        assert "\nset -euo pipefail\n" in text, script


def test_setup_is_quick_when_nothing_changed() -> None:
    stamps = [REPOSITORY / ".venv" / ".stamps" / group for group in ("test", "lint")]
    made_of = b"".join(
        (REPOSITORY / name).read_bytes() for name in ("pyproject.toml", "scripts/setup", "scripts/python")
    )
    current = subprocess.run(["cksum"], input=made_of, capture_output=True, check=True).stdout.decode().strip()
    if not all(stamp.exists() and stamp.read_text().strip() == current for stamp in stamps):
        pytest.skip("scripts/setup has not made this environment, or has something to do")
    subprocess.run([REPOSITORY / "scripts" / "setup"], cwd="/", check=True, timeout=2)


@pytest.mark.parametrize("workflow", sorted((REPOSITORY / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.stem)
def test_actions_are_pinned_by_commit(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}
    used = re.findall(r"uses: *(.+)", workflow.read_text())
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # \S+", action)] == []


LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize(
    "page",
    [page for page in tracked() if page.suffix == ".md"],
    ids=lambda page: str(page.relative_to(REPOSITORY)),
)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings], link


# Split, so that this file passes its own test.
FORBIDDEN = re.compile(
    "|".join(
        [
            "/" + r"work/",
            "/" + r"farm/",
            r"/home/[a-z]+/",
            "/" + r"root/",
            "files.python" + "hosted",
            "registry." + "npmjs",
        ]
    )
)


def test_nothing_of_a_machine_or_a_registry() -> None:
    found = []
    for file in tracked():
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{file.relative_to(REPOSITORY)}: {match[0]}" for match in FORBIDDEN.finditer(text)]
    assert found == []


def test_brand_has_the_sizes_that_home_assistant_asks_for() -> None:
    for prefix in ("", "dark_"):
        for suffix, side in (("", 256), ("@2x", 512)):
            with Image.open(PACKAGE / "brand" / f"{prefix}icon{suffix}.png") as icon:
                assert icon.size == (side, side)
            with Image.open(PACKAGE / "brand" / f"{prefix}logo{suffix}.png") as logo:
                assert side / 2 <= min(logo.size) <= side


# Entity platforms and components of the core's own, which hassfest lets anybody use: they require no package.
ALWAYS_THERE = {
    "binary_sensor",
    "cover",
    "diagnostics",
    "event",
    "image",
    "lock",
    "person",
    "sensor",
    "sun",
    "switch",
    "system_health",
}


def test_components_that_are_imported_are_depended_on() -> None:
    """As hassfest asks: else Home Assistant may not have installed what they need."""
    declared = {*MANIFEST["dependencies"], *MANIFEST["after_dependencies"], *ALWAYS_THERE}
    imported = set()
    for file in PACKAGE.rglob("*.py"):
        imported |= set(re.findall(r"homeassistant\.components\.([a-z_]+)", file.read_text()))
        for names in re.findall(r"from homeassistant\.components import ([a-z_, ]+)", file.read_text()):
            imported |= set(names.split(", "))
    assert "camera" in imported
    assert imported - declared == set()
