"""Every key that the code uses is translated, every translation is used, and placeholders agree."""

import ast
from collections.abc import Iterator, Mapping
import json
from pathlib import Path
import re
from typing import Any

import probatio as vol
import pytest
import yaml

from custom_components.nemotron_security import (
    ai_task,
    binary_sensor,
    camera,
    camera_flow,
    checks,
    config_flow,
    const,
    detector_flow,
    detector_forms,
    event,
    forms,
    gpu_entities,
    image,
    model_flow,
    options_flow,
    sensor,
    services,
    switch,
    zone_checks,
    zone_editor,
    zone_entities,
    zone_flow,
)
from custom_components.nemotron_security.analysis import Capabilities
from custom_components.nemotron_security.analysis.breaker import BreakerState
from custom_components.nemotron_security.analysis.probe import ModelProblem
from custom_components.nemotron_security.coordinator import IncidentChange
from custom_components.nemotron_security.detection.download import DownloadProblem
from custom_components.nemotron_security.detection.environment import Accelerator, EnvironmentProblem
from custom_components.nemotron_security.detection.model_files import ModelFileProblem
from custom_components.nemotron_security.gpu import GpuProblem, ThrottleReason
from custom_components.nemotron_security.issues import FIXABLE, ISSUE_ENVIRONMENT
from custom_components.nemotron_security.models import CameraView, ConnectionQuality, Feedback, Floor, RiskLevel, Topic
from custom_components.nemotron_security.store import StoreProblem
from custom_components.nemotron_security.vision.messages import Direction, Problem
from custom_components.nemotron_security.vision.trial import Trial

PACKAGE = Path(config_flow.__file__).parent
TRANSLATIONS: dict[str, Any] = json.loads((PACKAGE / "translations" / "en.json").read_text())
ICONS: dict[str, Any] = json.loads((PACKAGE / "icons.json").read_text())
PLACEHOLDER = re.compile(r"{(\w+)}")

# By platform, the keys of the entities that the code makes.
ENTITIES = {
    "ai_task": {"model"},
    "binary_sensor": {description.key for description in (*binary_sensor.BINARY_SENSORS, *gpu_entities.BINARY_SENSORS)}
    | set(zone_entities.KEYS.values()),
    "camera": {"live"},
    "event": {"incident"},
    "image": {"last_incident"},
    "sensor": {description.key for description in (*sensor.SENSORS, *sensor.PIPELINE_SENSORS, *gpu_entities.SENSORS)},
    "switch": {"detection"},
}
MODEL_PROBLEMS = {problem for problem in Problem if problem.startswith("model_")}
DETECTOR_PROBLEMS = {problem for problem in Problem if problem.startswith("detector_")}
CAMERA_PROBLEMS = set(Problem) - MODEL_PROBLEMS - DETECTOR_PROBLEMS


def leaves(node: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def literals(module: Any) -> set[str]:
    """Return every string that a module holds."""
    return constants(ast.parse(Path(module.__file__).read_text()))


def schema_keys(schema: Any) -> set[str]:
    return {marker.schema for marker in schema.schema}


@pytest.mark.parametrize(("path", "text"), leaves(TRANSLATIONS), ids=lambda value: ".".join(value)[:60])
def test_hassfest_accepts_it(path: tuple[str, ...], text: str) -> None:
    for key in path:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", key), key
    assert text == text.strip()
    assert text
    assert "[%key" not in text, "not resolved for custom integrations"
    assert not re.search(r"https?://|<[a-z/]", text), "no addresses, no HTML"
    assert text.count("{") == len(PLACEHOLDER.findall(text))


def test_entities() -> None:
    assert {platform: set(keys) for platform, keys in TRANSLATIONS["entity"].items()} == ENTITIES
    assert {platform: set(keys) for platform, keys in ICONS["entity"].items()} == ENTITIES


@pytest.mark.parametrize(
    ("platform", "module"), [("camera", camera), ("event", event), ("image", image), ("switch", switch)]
)
def test_entities_without_a_table_use_their_key(platform: str, module: Any) -> None:
    assert ENTITIES[platform] <= literals(module)


def test_states() -> None:
    entities = TRANSLATIONS["entity"]
    assert set(entities["sensor"]["last_risk_level"]["state"]) == set(RiskLevel)
    assert set(ICONS["entity"]["sensor"]["last_risk_level"]["state"]) == set(RiskLevel)
    assert set(entities["sensor"]["connection_quality"]["state"]) == set(ConnectionQuality)
    assert set(entities["sensor"]["model_state"]["state"]) == set(BreakerState)
    assert set(entities["sensor"]["gpu_throttle_reason"]["state"]) == set(ThrottleReason)
    attributes = entities["event"]["incident"]["state_attributes"]
    assert set(attributes["event_type"]["state"]) == set(IncidentChange)
    assert set(attributes["risk_level"]["state"]) == set(RiskLevel)
    assert set(attributes) - {"event_type"} <= literals(event)


def test_icons_are_of_the_icon_set_of_home_assistant() -> None:
    assert [icon for _, icon in leaves(ICONS) if not re.fullmatch(r"mdi:[a-z0-9-]+", icon)] == []


def test_issues() -> None:
    issues = TRANSLATIONS["issues"]
    assert set(issues) == {*Problem, *StoreProblem, *GpuProblem, *ModelProblem, *FIXABLE}
    for key, issue in issues.items():
        if key in FIXABLE:
            continue
        assert set(issue) == {"title", "description"}
        used = set(PLACEHOLDER.findall(issue["title"] + issue["description"]))
        allowed = {"detail"}
        if key in MODEL_PROBLEMS:
            allowed |= {"path"}
        elif key in CAMERA_PROBLEMS:
            allowed |= {"camera"}
        elif key in set(ModelProblem):
            allowed |= {"model", "server"}
            allowed -= {"detail"} if key.endswith("_lost") else set()
            allowed |= {"length"} if key == ModelProblem.CONTEXT_LOST else set()
            allowed = {"model", "server", "seconds"} if key == ModelProblem.SLOW else allowed
            allowed = {"model"} if key == ModelProblem.TASK_GONE else allowed
        elif key in set(GpuProblem):
            allowed |= {"source"}
        assert used == allowed, key


def test_issue_that_can_be_fixed() -> None:
    assert {ISSUE_ENVIRONMENT} == FIXABLE
    issue = TRANSLATIONS["issues"][ISSUE_ENVIRONMENT]
    assert set(issue) == {"title", "fix_flow"}
    fix = issue["fix_flow"]
    assert set(fix["step"]) == {"confirm"}
    assert set(fix["progress"]) == {"install"}
    assert set(fix["error"]) == {*EnvironmentProblem, forms.UNKNOWN}
    assert {name for _, text in leaves(issue) for name in PLACEHOLDER.findall(text)} == {"detail"}


def raised_keys() -> Iterator[tuple[str, set[str]]]:
    """Yield the literal translation keys that the code raises, with the placeholders it gives them."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            arguments = {keyword.arg: keyword.value for keyword in node.keywords}
            key, given = arguments.get("translation_key"), arguments.get("translation_placeholders")
            if isinstance(key, ast.Constant) and isinstance(key.value, str) and "translation_domain" in arguments:
                names = given.keys if isinstance(given, ast.Dict) else []
                yield key.value, {text for name in names if name for text in constants(name)}


def test_exceptions() -> None:
    raised = dict(raised_keys())
    exceptions = TRANSLATIONS["exceptions"]
    assert set(exceptions) == {*raised, *StoreProblem, *ai_task.FAILURES.values()}
    for key, given in raised.items():
        assert set(PLACEHOLDER.findall(exceptions[key]["message"])) <= given, key
    for problem in StoreProblem:
        assert set(PLACEHOLDER.findall(exceptions[problem]["message"])) == {"path", "detail"}


def test_selectors() -> None:
    selectors = {name: set(selector["options"]) for name, selector in TRANSLATIONS["selector"].items()}
    assert selectors == {
        "analyzer": {const.ANALYZER_RULES, const.ANALYZER_NEMOTRON, const.ANALYZER_AI_TASK},
        "source": set(camera_flow.SOURCES),
        "label": set(camera_flow.SECURITY_LABELS),
        "floor": set(Floor),
        "topic": set(Topic),
        "view": set(CameraView),
        "feedback": set(Feedback),
        "accelerator": set(Accelerator),
        "direction": set(Direction),
        "shape": {zone_flow.NEW},
    }


def test_services() -> None:
    described = yaml.safe_load((PACKAGE / "services.yaml").read_text())
    schemas = {
        services.SERVICE_REVIEW_INCIDENT: services.REVIEW_SCHEMA,
        services.SERVICE_PREVIEW_PROMPT: services.PREVIEW_SCHEMA,
        **{name: vol.Schema(schema) for name, schema in services.OF_A_CAMERA.items()},
    }
    assert set(described) == set(TRANSLATIONS["services"]) == set(ICONS["services"]) == set(schemas)
    for name, schema in schemas.items():
        texts = TRANSLATIONS["services"][name].get("fields", {})
        assert set(described[name].get("fields", ())) == set(texts) == schema_keys(schema)
        assert all(set(text) == {"name", "description"} for text in texts.values())
    feedback = described[services.SERVICE_REVIEW_INCIDENT]["fields"]["feedback"]
    assert feedback["selector"]["select"]["options"] == list(Feedback)


MEASURED = Trial(problem=None, labels=("person",), width=640, height=640, ms=1.0, fps=1000.0, threads=1, device="cpu")
DETECTOR_FORMS: dict[str, set[str]] = {
    "ultralytics_impossible": set(),
    "detector_triton": schema_keys(detector_forms.TRITON_SCHEMA),
    "detector_deepstack": schema_keys(detector_forms.DEEPSTACK_SCHEMA),
    "deepstack_model": schema_keys(detector_forms.custom_model_schema([])),
    "detector_other": schema_keys(detector_forms.other_schema(["other"])),
    "model_catalogue": schema_keys(detector_forms.catalogue_schema([])),
    "model_stored": schema_keys(detector_forms.stored_schema([])),
    "model_upload": schema_keys(detector_forms.upload_schema("ncnn")),
    "model_path": schema_keys(detector_forms.PATH_SCHEMA),
    "model_export": schema_keys(detector_forms.export_schema([])),
    "models_remove": schema_keys(detector_forms.remove_schema([])),
    "detector_tuning": schema_keys(detector_forms.TUNING_SCHEMA),
    "environment_install": schema_keys(detector_forms.ENVIRONMENT_SCHEMA),
    "environment_remove": set(),
    "detector_measured": schema_keys(detector_forms.measured_schema(MEASURED, ["dragon"])),
}
DETECTOR_MENUS = {
    "detector": {
        *("detector_ncnn", "detector_ultralytics", "ultralytics_impossible", "detector_triton", "detector_deepstack"),
        *("detector_other", "detector_none"),
    },
    "detector_ultralytics": {"detector_model", "model_export", "environment_install", "environment_remove"},
    "model_exported": {"detector_trial", "detector"},
    "detector_model": {"model_catalogue", "model_stored", "model_upload", "model_path", "models_remove"},
}
MENUS = {
    ("camera", "reconfigure"): set(TRANSLATIONS["config_subentries"]["camera"]["step"]["reconfigure"]["menu_options"]),
    ("options", "init"): {"detector", "workers", "incidents", "judging", "gpus"},
    **{(name, step): options for name in ("config", "options") for step, options in DETECTOR_MENUS.items()},
}
CAMERA_KEYS = {const.CONF_LABELS, const.CONF_DETECT, const.CONF_VIEW, const.CONF_NOTE, "name"}
FORMS = {
    ("config", "user"): schema_keys(config_flow.USER_SCHEMA),
    ("config", "nemotron"): schema_keys(config_flow.NEMOTRON_SCHEMA),
    ("config", "model"): {const.CONF_ANALYZER_MODEL},
    ("config", "ai_task"): schema_keys(config_flow.ai_task_schema([])),
    ("config", "capabilities"): schema_keys(
        config_flow._capabilities_schema(Capabilities(schema=True, images=True, context_length=1))
    ),
    ("config", "reconfigure"): schema_keys(config_flow.RECONFIGURE_SCHEMA),
    ("config", "reauth_confirm"): schema_keys(config_flow.REAUTH_SCHEMA),
    ("options", "incidents"): schema_keys(options_flow.INCIDENTS_SCHEMA),
    ("options", "workers"): schema_keys(options_flow.WORKERS_SCHEMA),
    ("options", "judging"): schema_keys(options_flow.JUDGING_SCHEMA) - {options_flow.SECTION_LIMITS},
    ("options", "gpus"): schema_keys(options_flow.GPUS_SCHEMA),
    **{(name, step): fields for name in ("config", "options") for step, fields in DETECTOR_FORMS.items()},
    ("camera", "user"): schema_keys(camera_flow.SOURCE_SCHEMA),
    ("camera", "source"): schema_keys(camera_flow.SOURCE_SCHEMA),
    **{("camera", kind.key): {zone_flow.CONF_SHAPE} for kind in zone_checks.ShapeKind},
    **{
        ("camera", kind.value): {
            *("name", zone_flow.CONF_POINTS, const.CONF_LABELS, zone_flow.CONF_DELETE),
            *(marker.schema for marker in zone_flow.DETAILS[kind]),
        }
        for kind in zone_checks.ShapeKind
    },
    ("camera", "opening_zones"): {const.CONF_OPENING_ZONES},
    ("camera", "outside"): schema_keys(camera_flow.OUTSIDE_SCHEMA),
    **{("camera", source): {field, *CAMERA_KEYS} for source, field in checks.LOCATION_FIELDS.items()},
}
WINDOWS = {("camera", "draw")}

ADVANCED = {camera_flow.SECTION_ADVANCED: schema_keys(camera_flow.ADVANCED_SCHEMA)}
SECTIONS = {
    ("options", "judging"): {options_flow.SECTION_LIMITS: schema_keys(options_flow.LIMITS_SCHEMA)},
    **{("camera", source): ADVANCED for source in camera_flow.SOURCES},
}


FLOWS = {
    "camera": camera_flow.CameraSubentryFlow,
    "config": config_flow.NemotronSecurityConfigFlow,
    "options": options_flow.NemotronSecurityOptionsFlow,
}


def flow(name: str) -> dict[str, Any]:
    part: dict[str, Any] = TRANSLATIONS["config_subentries"]["camera"] if name == "camera" else TRANSLATIONS[name]
    return part


def test_every_step_is_translated() -> None:
    steps = {(name, step) for name in ("config", "options", "camera") for step in flow(name)["step"]}
    assert steps == {*FORMS, *MENUS, *WINDOWS}


@pytest.mark.parametrize(("menu", "options"), MENUS.items(), ids=[".".join(menu) for menu in MENUS])
def test_every_choice_of_a_menu_is_named(menu: tuple[str, str], options: set[str]) -> None:
    step = flow(menu[0])["step"][menu[1]]
    assert set(step["menu_options"]) == options
    assert set(step.get("menu_option_descriptions", options)) == options
    for choice in options:
        assert hasattr(FLOWS[menu[0]], f"async_step_{choice}"), choice


@pytest.mark.parametrize("part", ["step", "progress", "error"])
def test_the_detector_is_chosen_in_the_same_words_in_both_flows(part: str) -> None:
    """Texts cannot refer to each other in a custom integration."""
    own = {"config": {"probe", "user", "model", *config_flow.PROBE_ERRORS.values()}, "options": {"init"}}
    config, options = (set(flow(name)[part]) - own[name] for name in ("config", "options"))
    shared = config & options
    assert shared >= {"step": {*DETECTOR_FORMS, *DETECTOR_MENUS}, "progress": PROGRESS, "error": DETECTOR_ERRORS}[part]
    for key in shared:
        assert flow("config")[part][key] == flow("options")[part][key]


def test_every_progress_is_told() -> None:
    assert set(flow("config")["progress"]) == PROGRESS | {"probe"}
    assert set(flow("options")["progress"]) == PROGRESS


def test_texts_of_the_window_to_draw_in() -> None:
    """Each that its script asks for is there, and each that is there is asked for."""
    start = zone_editor.TEXTS
    texts = {key.removeprefix(start) for key in TRANSLATIONS["common"] if key.startswith(start)}
    assert {file.stem for file in zone_editor.PAGE.glob("*.js")} == set(zone_editor.SCRIPTS)
    files = "".join(file.read_text() for pattern in ("*.html", "*.js") for file in zone_editor.PAGE.glob(pattern))
    asked = set(re.findall(r'data-(?:text|label)="(\w+)"|\btext\.(\w+)', files))
    named = {first or second for first, second in asked}
    for kind in zone_checks.ShapeKind:
        named |= {f"new_{kind}", f"name_{kind}"}
    named |= {f"direction_{way}" for way in Direction}
    named |= set(re.findall(r'"(hint_\w+)"', files))
    # The window's title, and what its address answers when it is no longer valid, are put in by the server.
    assert texts == named | {"title"}


def test_numbers_in_the_errors_are_those_that_are_checked() -> None:
    errors = flow("camera")["error"]
    assert f" {zone_checks.FEWEST_POINTS} " in errors["too_few_points"]
    assert f" {zone_checks.MOST_POINTS} " in errors["too_many_points"]
    assert f" {zone_checks.LONGEST_NAME} " in errors["long_name"]
    assert errors["too_many_shapes"].count(f" {zone_checks.MOST_SHAPES} ") == len(zone_checks.ShapeKind)
    assert f" {zone_checks.MOST_SHAPES} " in TRANSLATIONS["common"]["draw_too_many"]


@pytest.mark.parametrize(("form", "fields"), FORMS.items(), ids=[".".join(form) for form in FORMS])
def test_every_field_is_named_and_explained(form: tuple[str, str], fields: set[str]) -> None:
    step = flow(form[0])["step"][form[1]]
    assert set(step.get("data", {})) == fields
    assert set(step.get("data_description", {})) == fields
    sections = step.get("sections", {})
    assert {name: set(part["data"]) for name, part in sections.items()} == SECTIONS.get(form, {})
    assert {name: set(part["data_description"]) for name, part in sections.items()} == SECTIONS.get(form, {})


def problems(module: Any) -> set[str]:
    """Return the keys that the functions named `..._problem` return."""
    found = set()
    for function in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(function, ast.FunctionDef) and function.name.endswith("_problem"):
            returned = [node for node in ast.walk(function) if isinstance(node, ast.Return)]
            found |= {text for node in returned for text in constants(node) if re.fullmatch(r"[a-z]+_[a-z_]+", text)}
    return found


def constants(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


PROGRESS = {"model_download", "export_progress", "environment_progress", "detector_trial"}
DETECTOR_ERRORS = {
    *MODEL_PROBLEMS,
    *DETECTOR_PROBLEMS,
    *EnvironmentProblem,
    *DownloadProblem,
    *ModelFileProblem,
    *("path_not_absolute", "no_server", "invalid_url", "invalid_server_url", "secret_hidden", "environment_in_use"),
    forms.UNKNOWN,
}
"""All that can be wrong with a detector."""


def test_every_error_is_translated_and_every_translation_used() -> None:
    errors = {name: set(flow(name)["error"]) for name in ("config", "options", "camera")}
    translated = {error for of_flow in errors.values() for error in of_flow}
    assert {"invalid_scheme", "file_not_found"} <= problems(checks)
    # The server's address has an error of its own in place of the streams'.
    assert problems(checks) | problems(zone_checks) | set(config_flow.PROBE_ERRORS.values()) <= translated
    assert errors["config"] & errors["options"] >= DETECTOR_ERRORS
    modules = (config_flow, camera_flow, checks, detector_flow, model_flow, options_flow, zone_checks, zone_flow)
    assert translated - DETECTOR_ERRORS <= set().union(*map(literals, modules))


DETECTOR_PLACEHOLDERS = {"detail", "now", "labels", "free", "gpu", "cpu", "path"}


@pytest.mark.parametrize(
    ("flow_name", "placeholders"),
    [
        ("config", {"docs_url", "server", "model"} | DETECTOR_PLACEHOLDERS),
        ("options", {"docs_url"} | DETECTOR_PLACEHOLDERS),
        (
            "camera",
            {"docs_url", "camera", "picture", "zones", "lines", "masks", "shapes"},
        ),
    ],
)
def test_placeholders_of_the_flows(flow_name: str, placeholders: set[str]) -> None:
    used = {name for _, text in leaves(flow(flow_name)) for name in PLACEHOLDER.findall(text)}
    assert used == placeholders
