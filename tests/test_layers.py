"""Dependencies point downward, as docs/architecture.md lays the layers out. Held by reading the imports."""

import ast
from collections.abc import Iterator
from pathlib import Path
import sys

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "custom_components" / "nemotron_security"
NAME = "custom_components.nemotron_security"
FILES = sorted(PACKAGE.rglob("*.py"))
PLATFORMS = {"ai_task", "binary_sensor", "camera", "event", "image", "sensor", "switch"}

# What runs without Home Assistant: in the worker, in benchmarks, in people's own programs.
FREE = {
    "vision",
    "store",
    "gpu",
    "detection",
    "incidents",
    "incident_jobs",
    "episodes",
    "quality",
    "models",
    "checks",
    "const",
    "zones",
}
FREE |= {"zone_checks", "zone_picture"}

# Each layer may import what stands in its own line and in the lines below. `vision` lies apart: its messages are the
# words of the domain, which everybody may use; the rest of it belongs to the worker, and `vision.executor`
# and `vision.pool` to the parent's side.
LAYERS: tuple[set[str], ...] = (
    {"__init__", "config_flow", "diagnostics", "logbook", "media_source", "repairs", "system_health"}
    | {"camera_flow", "forms", "options_flow", "zone_flow"}
    | {"detector_draft", "detector_flow", "detector_forms", "model_flow"}
    | PLATFORMS,
    {"http_api", "reviews", "services", "websocket_api", "zone_editor"},
    {
        "entity",
        "coordinator",
        "runtime",
        "announcer",
        "feeds",
        "health",
        "issues",
        "judging",
        "lasting",
        "model_watch",
        "task_watch",
    }
    | {"environments", "gpu_entities", "gpus", "outside", "zone_entities"},
    {"broadcasters", "payloads", "permissions"},
    {"incidents", "incident_jobs", "analysis"},
    {"store", "gpu", "detection", "episodes", "quality", "zones", "zone_picture"},
    {"checks", "vision", "models", "const", "zone_checks"},
)

PARENTS_SIDE = {"messages", "executor", "labels", "pool", "redact", "trial", "plugins"}
"""What Home Assistant's process may load of `vision`."""


def part_of(file: Path) -> str:
    """Return the module or package right below the integration that a file belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path, *, later: bool = True) -> Iterator[str]:
    """Yield the absolute name of everything that a file imports, also for types only, and (`later`) in functions."""
    package = [NAME, *file.relative_to(PACKAGE).parent.parts]
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree) if later else tree.body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{name.name}" for name in node.names)


def own_imports(file: Path) -> Iterator[str]:
    """Yield what a file imports of the integration, without the integration's name."""
    for name in imported(file):
        if name.startswith(f"{NAME}."):
            yield name.removeprefix(f"{NAME}.")


def layer_of(part: str) -> int:
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    raise AssertionError(f"{part} stands in no layer: put it into one")


def relative(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def test_the_reader_of_imports_sees_them() -> None:
    """The rules below are worth as much as this."""
    wiring = set(own_imports(PACKAGE / "__init__.py"))
    assert "const.DOMAIN" in wiring
    assert "homeassistant.core.HomeAssistant" in set(imported(PACKAGE / "__init__.py"))
    assert "messages.Problem" not in wiring
    assert "vision.messages.Problem" in set(own_imports(PACKAGE / "vision" / "detectors" / "__init__.py"))


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_imports_point_downward(file: Path) -> None:
    own = part_of(file)
    upward = [
        name for name in own_imports(file) if name.split(".")[0] != own and layer_of(name.split(".")[0]) < layer_of(own)
    ]
    assert upward == []


@pytest.mark.parametrize("file", [file for file in FILES if part_of(file) in FREE], ids=relative)
def test_free_of_home_assistant(file: Path) -> None:
    forbidden = {"homeassistant", "voluptuous", "probatio"}
    assert [name for name in imported(file) if name.split(".")[0] in forbidden] == []


@pytest.mark.parametrize("file", sorted((PACKAGE / "vision").rglob("*.py")), ids=relative)
def test_vision_imports_nothing_above_it(file: Path) -> None:
    assert [name for name in own_imports(file) if not name.startswith("vision")] == []


@pytest.mark.parametrize("file", [file for file in FILES if part_of(file) != "vision"], ids=relative)
def test_of_vision_only_the_parents_side_is_used(file: Path) -> None:
    """Home Assistant's process must never load a decoder or a detector."""
    ours = [name for name in own_imports(file) if name.startswith("vision.")]
    assert [name for name in ours if name.split(".")[1] not in PARENTS_SIDE] == []


def test_the_parents_side_of_vision_loads_no_library() -> None:
    """Home Assistant's process pays for what the executor imports, directly or not."""
    vision = PACKAGE / "vision"
    waiting, seen, libraries = set(PARENTS_SIDE), set[str](), set[str]()
    while waiting:
        module = waiting.pop()
        seen.add(module)
        for name in imported(vision / f"{module}.py", later=False):
            own = name.removeprefix(f"{NAME}.vision.").split(".")[0] if name.startswith(f"{NAME}.vision.") else ""
            if own and own not in seen:
                waiting.add(own)
            elif not own:
                libraries.add(name.split(".")[0])
    assert seen >= {"executor", "messages", "wire"}
    assert libraries <= set(sys.stdlib_module_names)


def test_messages_and_models_are_leaves() -> None:
    libraries = set(sys.stdlib_module_names)
    messages = set(imported(PACKAGE / "vision" / "messages.py"))
    assert [name for name in messages if name.split(".")[0] not in libraries] == []
    models = set(imported(PACKAGE / "models.py"))
    outside = [name for name in models if name.split(".")[0] not in libraries]
    assert [name for name in outside if not name.startswith(f"{NAME}.vision.messages.")] == []


def test_platforms_do_not_know_each_other() -> None:
    for platform in PLATFORMS:
        known = {name.split(".")[0] for name in own_imports(PACKAGE / f"{platform}.py")}
        assert known & PLATFORMS == set(), platform
