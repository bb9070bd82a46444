"""The detector's steps of both flows, walked as the frontend walks them. What is tried is really tried."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from http import HTTPStatus
import json
import logging
from pathlib import Path
import shutil
import tempfile
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

from aiohttp import FormData
from homeassistant.config_entries import SOURCE_USER, ConfigSubentry
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, InvalidData
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.nemotron_security import detector_flow, environments, model_flow
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.detection import environment
from custom_components.nemotron_security.detection.catalogue import CatalogueModel
from custom_components.nemotron_security.detection.environment import Build, Environment, Packages
from custom_components.nemotron_security.environments import async_environment, model_store
from custom_components.nemotron_security.forms import KEY_NOT_CHANGED
from custom_components.nemotron_security.vision.detectors.ncnn import NcnnDetector
from custom_components.nemotron_security.vision.messages import DetectorConfig, Problem
from custom_components.nemotron_security.vision.trial import Trial
from demo.home_assistant import MODEL

from ..vision.model_servers import DeepStackServer, KServeServer, running
from . import model_samples as samples
from .file_server import FileServer, serving
from .test_environment import wheel

SECRET = "hunter2"
NCNN = {"plugin": "ncnn", "model": str(MODEL)}


@pytest.fixture(autouse=True)
def not_set_up() -> Iterator[None]:
    """The flow is tested here; what it sets up is tested where it is written."""
    with (
        patch("custom_components.nemotron_security.async_setup", return_value=True),
        patch("custom_components.nemotron_security.async_setup_entry", return_value=True),
        patch("custom_components.nemotron_security.async_unload_entry", return_value=True),
    ):
        yield


class Walk:
    """One flow, step by step; the set-up's and the options' have the same steps."""

    def __init__(self, hass: HomeAssistant, manager: Any, result: Any) -> None:
        self.hass = hass
        self.manager = manager
        self.result = result

    @property
    def step(self) -> str:
        return str(self.result.get("step_id"))

    async def choose(self, *options: str) -> None:
        """Choose from menus, one after the other."""
        for option in options:
            assert self.result["type"] is FlowResultType.MENU, self.result
            assert option in self.result["menu_options"]
            await self.answer(next_step_id=option)

    async def answer(self, **user_input: Any) -> None:
        """Answer, and wait while something is done."""
        await self.begin(**user_input)
        await self.wait()

    async def begin(self, **user_input: Any) -> None:
        self.result = await self.manager.async_configure(self.result["flow_id"], user_input)

    async def wait(self) -> None:
        async with asyncio.timeout(60):
            while self.result["type"] is FlowResultType.SHOW_PROGRESS:
                assert self.result["progress_action"] == self.result["step_id"]
                flow = self.manager._progress[self.result["flow_id"]]
                # When it is done, Home Assistant goes on by itself, and then tells the page to ask: whoever asks before
                # lets the next step be shown twice, the second time perhaps after it was answered.
                while flow.cur_step and flow.cur_step["type"] is FlowResultType.SHOW_PROGRESS:
                    await asyncio.sleep(0.02)
                self.result = await self.manager.async_configure(self.result["flow_id"])

    def suggested(self, field: str) -> Any:
        for marker in self.result["data_schema"].schema:
            if marker.schema == field and marker.description:
                return marker.description.get("suggested_value")
        return None

    def choices(self, field: str) -> list[Any]:
        """Return what a list offers."""
        found = self.result["data_schema"].schema[field].config["options"]
        return [option["value"] if isinstance(option, dict) else option for option in found]

    @property
    def measured(self) -> dict[str, Any]:
        """What the last page shows."""
        assert self.step == "detector_measured", self.result
        return dict(self.result["data_schema"]({}))

    @property
    def detector(self) -> dict[str, Any] | None:
        """What was saved."""
        assert self.result["type"] is FlowResultType.CREATE_ENTRY
        options = self.result["options"] if "options" in self.result else self.result["data"]
        found: dict[str, Any] | None = options.get("detector")
        return found


def entry_with(hass: HomeAssistant, detector: dict[str, Any] | None = None) -> MockConfigEntry:
    options = {"quiet_time": 7, **({"detector": detector} if detector else {})}
    entry = MockConfigEntry(domain=DOMAIN, data={"analyzer": "rules"}, options=options, minor_version=2)
    entry.add_to_hass(hass)
    return entry


async def open_options(hass: HomeAssistant, detector: dict[str, Any] | None = None) -> Walk:
    """Open the options at the choice of a detector."""
    entries = hass.config_entries.async_entries(DOMAIN)
    entry = entries[0] if entries else entry_with(hass, detector)
    walk = Walk(hass, hass.config_entries.options, await hass.config_entries.options.async_init(entry.entry_id))
    await walk.choose("detector")
    return walk


@pytest.fixture
async def options(hass: HomeAssistant) -> Walk:
    return await open_options(hass)


@pytest.fixture
def no_trial(monkeypatch: pytest.MonkeyPatch) -> list[tuple[DetectorConfig, str]]:
    """Take every detector for good: for those that cannot run here. Returns what was to be tried, and on which Python.

    That `async_try_detector` tries is tested where it is written, and in most tests here.
    """
    tried: list[tuple[DetectorConfig, str]] = []

    async def trust(config: DetectorConfig, *, python: str, timeout: float) -> Trial:  # noqa: ASYNC109
        tried.append((config, python))
        return Trial(problem=None, labels=("person",) * 80, width=640, height=640, ms=2.0, fps=500.0, device="GPU")

    monkeypatch.setattr(detector_flow, "async_try_detector", trust)
    return tried


@pytest.mark.usefixtures("socket_enabled")
@pytest.mark.parametrize(("detect", "missing"), [(True, "golden retriever, stop sign"), (False, None)])
async def test_what_the_cameras_watch_for_and_the_model_lacks(
    hass: HomeAssistant, no_trial: list[tuple[DetectorConfig, str]], *, detect: bool, missing: str | None
) -> None:
    watched = {"labels": ["human", "stop_sign", "golden retriever"], "detect": detect}
    entry = entry_with(hass)
    subentry = ConfigSubentry(data=MappingProxyType(watched), subentry_type="camera", title="Door", unique_id="door")
    hass.config_entries.async_add_subentry(entry, subentry)
    walk = await open_options(hass)
    await walk.choose("detector_triton")
    await walk.answer(urls=["http://gpu.local:8000"], model="yolo")
    assert walk.measured.get("missing") == missing
    deep = await open_options(hass)
    await deep.choose("detector_deepstack")
    await deep.answer(urls=["http://127.0.0.1:1"])
    await deep.answer()
    assert "missing" not in deep.measured, "it is not known what such a server finds"


# --- which one ------------------------------------------------------------------------------------------------------


async def test_first_set_up_with_a_detector(hass: HomeAssistant) -> None:
    flow = hass.config_entries.flow
    walk = Walk(hass, flow, await flow.async_init(DOMAIN, context={"source": SOURCE_USER}))
    await walk.answer(analyzer="rules")
    await walk.choose("detector_ncnn", "model_path")
    await walk.answer(model=f" {MODEL} ")
    measured = walk.measured
    assert measured["input"] == "320 x 192"
    assert measured["classes"] == len(NcnnDetector(DetectorConfig(model=str(MODEL))).labels)
    assert measured["ms"] > 0
    assert measured["fps"] > 0.99 * 1000 / measured["ms"]  # several pictures together may be faster
    assert measured["cameras"] == int(measured["fps"] // 5)
    assert measured["device"]
    assert "person" in walk.result["description_placeholders"]["labels"]
    await walk.answer()
    assert walk.detector == NCNN
    assert walk.result["data"] == {"analyzer": "rules"}


async def test_options_keep_the_other_pages(hass: HomeAssistant, options: Walk) -> None:
    assert options.result["description_placeholders"]["now"] == "-"
    await options.choose("detector_ncnn", "model_path")
    await options.answer(model=str(MODEL))
    await options.answer()
    (entry,) = hass.config_entries.async_entries(DOMAIN)
    assert entry.options == {"quiet_time": 7, "detector": NCNN}
    again = await open_options(hass)
    assert again.result["description_placeholders"]["now"] == f"ncnn ({MODEL.name})"
    await again.choose("detector_ncnn", "model_path")
    assert again.suggested("model") == str(MODEL)


async def test_no_detector_any_more(hass: HomeAssistant) -> None:
    walk = await open_options(hass, NCNN)
    await walk.choose("detector_none")
    assert walk.detector is None
    (entry,) = hass.config_entries.async_entries(DOMAIN)
    assert entry.options == {"quiet_time": 7}


@pytest.mark.parametrize("problem", ["environment_musl", "environment_32_bit", "environment_no_uv"])
async def test_what_cannot_run_here_is_not_offered_and_says_why(
    hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    monkeypatch.setattr(detector_flow, "platform_problem", lambda: environment.EnvironmentProblem(problem))
    walk = await open_options(hass)
    assert "detector_ultralytics" not in walk.result["menu_options"]
    await walk.choose("ultralytics_impossible")
    assert walk.result["errors"] == {"base": problem}
    await walk.answer()
    assert walk.step == "detector"


async def test_detectors_of_other_packages_are_offered(
    hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch, options: Walk
) -> None:
    assert "detector_other" not in options.result["menu_options"]
    monkeypatch.setattr(f"{detector_flow.__name__}.plugins.names", lambda: ("ncnn", "triton", "theirs"))
    walk = await open_options(hass)
    await walk.choose("detector_other")
    assert walk.choices("plugin") == ["theirs"]
    typed = {"plugin": "theirs", "model": "m", "urls": ["http://host"], "token": SECRET}
    await walk.answer(**typed)
    # It is not there: the trial says so, and nothing is lost.
    assert walk.step == "detector_other"
    assert walk.result["errors"] == {"base": Problem.DETECTOR_NOT_INSTALLED}
    assert "theirs" in walk.result["description_placeholders"]["detail"]
    assert {name: walk.suggested(name) for name in typed} == typed


# --- a model in a folder --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "errors"),
    [
        ("model", {"model": "path_not_absolute"}),
        ("/absent/model", {"base": "model_file_not_found"}),
        ("/etc", {"base": "model_archive_incomplete"}),
        ("/etc/hostname", {"base": "model_file_unknown"}),
        ("/tmp/\0", {"base": "model_file_not_found"}),
    ],
)
async def test_bad_paths(options: Walk, path: str, errors: dict[str, str]) -> None:
    await options.choose("detector_ncnn", "model_path")
    await options.answer(model=path)
    assert options.step == "model_path"
    assert options.result["errors"] == errors
    assert options.suggested("model") == path
    await options.answer(model=str(MODEL))
    assert options.measured


async def test_model_that_the_trial_refuses(options: Walk, tmp_path: Path) -> None:
    folder = shutil.copytree(MODEL, tmp_path / "model", copy_function=shutil.copyfile)
    (folder / "model.ncnn.bin").write_bytes(b"")
    await options.choose("detector_ncnn", "model_path")
    await options.answer(model=str(folder))
    assert options.step == "model_path"
    assert options.result["errors"] == {"base": Problem.MODEL_CORRUPT}
    assert "model.ncnn.bin" in options.result["description_placeholders"]["detail"]
    assert options.suggested("model") == str(folder)
    shutil.copyfile(MODEL / "model.ncnn.bin", folder / "model.ncnn.bin")
    await options.answer(model=str(folder))
    assert options.measured


async def test_model_of_another_detector(options: Walk, tmp_path: Path) -> None:
    await options.choose("detector_ncnn", "model_path")
    await options.answer(model=str(samples.onnx(tmp_path / "model.onnx")))
    assert options.result["errors"] == {"base": "model_file_other_kind"}
    assert options.result["description_placeholders"]["detail"] == "onnx"


async def test_zip_on_the_machine_is_unpacked_and_stays(hass: HomeAssistant, options: Walk, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "model"), "zip", MODEL))
    await options.choose("detector_ncnn", "model_path")
    await options.answer(model=str(archive))
    assert options.measured
    await options.answer()
    (stored,) = model_store(hass).all()
    assert options.detector == {"plugin": "ncnn", "model": stored.path}
    assert archive.exists()


async def test_labels_from_a_file(options: Walk, tmp_path: Path) -> None:
    names = [f"thing {number}" for number in range(len(NcnnDetector(DetectorConfig(model=str(MODEL))).labels))]
    labels = samples.written(tmp_path / "names.txt", "\n".join(names).encode())
    await options.choose("detector_ncnn", "model_path")
    await options.answer(model=str(MODEL), labels_file="names.txt")
    assert options.result["errors"] == {"labels_file": "path_not_absolute"}
    await options.answer(model=str(MODEL), labels_file="/etc/passwd\0")
    assert options.result["errors"] == {"base": "model_file_not_found"}
    await options.answer(model=str(MODEL), labels_file=str(labels))
    assert options.result["description_placeholders"]["labels"].startswith("thing 0, thing 1")
    await options.answer()
    assert options.detector == {**NCNN, "labels": names}


async def test_labels_that_do_not_fit_the_model(options: Walk, tmp_path: Path) -> None:
    labels = samples.written(tmp_path / "names.txt", b"person\n")
    await options.choose("detector_ncnn", "model_path")
    await options.answer(model=str(MODEL), labels_file=str(labels))
    assert options.step == "model_path"
    assert options.result["errors"] == {"base": Problem.MODEL_SHAPE}
    assert options.suggested("labels_file") == str(labels)
    # Without them it has its own.
    await options.answer(model=str(MODEL))
    assert "person" in options.result["description_placeholders"]["labels"]
    await options.answer()
    assert options.detector == NCNN


async def test_flow_that_is_closed_ends_the_trial(hass: HomeAssistant, options: Walk) -> None:
    await options.choose("detector_ncnn", "model_path")
    await options.begin(model=str(MODEL))
    assert options.result["type"] is FlowResultType.SHOW_PROGRESS
    flow = hass.config_entries.options._progress[options.result["flow_id"]]
    assert isinstance(flow, detector_flow.DetectorFlow)
    job = flow._draft.job
    assert job is not None
    hass.config_entries.options.async_abort(options.result["flow_id"])
    with pytest.raises(asyncio.CancelledError):
        await job


# --- uploads --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def upload(options: Walk, hass_client: ClientSessionGenerator) -> Any:
    """Send files as the frontend does; returns their ids. Where they go to was set up when the flow began."""
    client = await hass_client()

    async def send(file: Path) -> str:
        form = FormData()
        form.add_field("file", file.read_bytes(), filename=file.name)
        response = await client.post("/api/file_upload", data=form)
        assert response.status == HTTPStatus.OK
        return str((await response.json())["file_id"])

    return send


async def test_upload(hass: HomeAssistant, upload: Any, options: Walk, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "yard"), "zip", MODEL.parent, MODEL.name))
    await options.choose("detector_ncnn", "model_upload")
    await options.answer(file=await upload(archive))
    assert options.measured
    await options.answer()
    (stored,) = model_store(hass).all()
    assert stored.name == "yard.zip"
    assert options.detector == {"plugin": "ncnn", "model": stored.path}
    assert Path(stored.path).is_relative_to(hass.config.path(DOMAIN, "models"))
    # It can be chosen again, and deleted only when it is not in use.
    again = await open_options(hass)
    await again.choose("detector_ncnn", "model_stored")
    assert again.suggested("model") == stored.id
    await again.answer(model=stored.id)
    assert again.measured


async def test_model_that_another_window_removed(hass: HomeAssistant, options: Walk, tmp_path: Path) -> None:
    store = model_store(hass)
    gone = store.add_upload(samples.ncnn_zip(tmp_path / "a.zip"), "a", "ncnn")
    await options.choose("detector_ncnn", "model_stored")
    store.remove(gone.id)
    await options.answer(model=gone.id)
    assert (options.step, options.result["errors"]) == ("model_stored", {"base": "model_missing"})


async def test_uploaded_labels(hass: HomeAssistant, upload: Any, options: Walk, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "yard"), "zip", MODEL))
    names = [f"thing {number}" for number in range(len(NcnnDetector(DetectorConfig(model=str(MODEL))).labels))]
    labels = samples.written(tmp_path / "names.txt", "\n".join(names).encode())
    await options.choose("detector_ncnn", "model_upload")
    await options.answer(file=await upload(archive), labels_file=await upload(labels))
    assert options.result["description_placeholders"]["labels"].startswith("thing 0")
    bad = await open_options(hass)
    await bad.choose("detector_ncnn", "model_upload")
    await bad.answer(file=await upload(archive), labels_file=await upload(archive))
    assert bad.result["errors"] == {"base": "labels_unreadable"}


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda folder: samples.written(folder / "a.zip", b"nothing"), "model_file_unknown"),
        (lambda folder: samples.archive(folder / "a.zip", {"../model.ncnn.bin": b""}), "model_archive_unsafe"),
        (lambda folder: samples.archive(folder / "a.zip", {"model.ncnn.bin": b""}), "model_archive_incomplete"),
        (lambda folder: samples.lying_zip(folder / "a.zip"), "model_archive_broken"),
        (lambda folder: samples.torch_file(folder / "a.zip", folder / "evil"), "model_file_other_kind"),
        (lambda folder: samples.written(folder / "a.zip", samples.old_pickle()), "model_file_old_pickle"),
    ],
)
async def test_bad_uploads(
    hass: HomeAssistant, upload: Any, options: Walk, tmp_path: Path, make: Any, problem: str
) -> None:
    await options.choose("detector_ncnn", "model_upload")
    await options.answer(file=await upload(make(tmp_path)))
    assert options.step == "model_upload"
    assert options.result["errors"] == {"base": problem}
    assert model_store(hass).all() == []
    assert not (tmp_path / "evil").exists()


async def test_upload_that_is_gone(upload: Any, options: Walk) -> None:
    await options.choose("detector_ncnn", "model_upload")
    await options.answer(file="00000000-0000-0000-0000-000000000000")
    assert options.result["errors"] == {"base": "model_file_not_found"}


async def test_deleting_models(hass: HomeAssistant, tmp_path: Path) -> None:
    store = model_store(hass)
    used = store.add_upload(samples.ncnn_zip(tmp_path / "a.zip"), "used", "ncnn")
    idle = store.add_upload(samples.ncnn_zip(tmp_path / "b.zip"), "idle", "ncnn")
    other = store.add_upload(samples.onnx(tmp_path / "c.onnx"), "other", "ultralytics")
    walk = await open_options(hass, {"plugin": "ncnn", "model": used.path})
    await walk.choose("detector_ncnn", "models_remove")
    assert walk.choices("model") == [idle.id]
    with pytest.raises(InvalidData):
        await walk.answer(model=[used.id])
    await walk.answer(model=[idle.id])
    assert walk.step == "detector_model"
    assert {model.id for model in store.all()} == {used.id, other.id}


# --- servers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def model() -> NcnnDetector:
    return NcnnDetector(DetectorConfig(model=str(MODEL)))


@pytest.fixture
def triton(model: NcnnDetector, socket_enabled: None) -> Iterator[KServeServer]:
    with running(KServeServer(model)) as server:
        server.token = f"Bearer {SECRET}"
        yield server


@pytest.fixture
def deep(model: NcnnDetector, socket_enabled: None) -> Iterator[DeepStackServer]:
    with running(DeepStackServer(model)) as server:
        server.key = SECRET
        yield server


async def test_triton(hass: HomeAssistant, options: Walk, triton: KServeServer) -> None:
    typed = {"urls": [triton.url, "http://127.0.0.1:1"], "model": "yolo", "token": SECRET}
    await options.choose("detector_triton")
    await options.answer(**typed)
    assert options.measured["input"] == "320 x 192"
    await options.answer()
    assert options.detector == {"plugin": "triton", **typed}


async def test_triton_whose_server_does_not_tell_the_names(
    hass: HomeAssistant, options: Walk, triton: KServeServer, tmp_path: Path
) -> None:
    """As every other server of its protocol. With so many classes as COCO has, those would be taken for COCO's."""
    triton.has_config = False
    names = [f"thing {number}" for number in range(len(triton.model.labels))]
    labels = samples.written(tmp_path / "names.yaml", f"names: {json.dumps(names)}\n".encode())
    typed = {"urls": [triton.url], "model": "yolo", "token": SECRET}
    await options.choose("detector_triton")
    for file, problem in (
        ("names.yaml", "path_not_absolute"),
        (str(tmp_path / "absent"), "model_file_not_found"),
        (str(samples.written(tmp_path / "empty", b"")), "labels_unreadable"),
    ):
        await options.answer(**typed, labels_file=file)
        assert options.result["errors"] == {"labels_file": problem}
        assert options.suggested("labels_file") == file
    await options.answer(**typed, labels_file=str(labels))
    assert options.result["description_placeholders"]["labels"].startswith("thing 0, thing 1")
    await options.answer()
    assert options.detector == {"plugin": "triton", **typed, "labels": names}
    # What else is changed later does not lose them; another model has names of its own.
    again = await open_options(hass)
    await again.choose("detector_triton")
    await again.answer(**{**typed, "urls": [triton.url, "http://127.0.0.1:1"]})
    await again.answer()
    assert (again.detector or {})["labels"] == names
    other = await open_options(hass)
    await other.choose("detector_triton")
    triton.has_config = True
    hass.config_entries.async_update_entry(
        hass.config_entries.async_entries(DOMAIN)[0], options={"detector": {**(again.detector or {}), "model": "old"}}
    )
    await other.answer(**typed)
    await other.answer()
    assert other.detector == {"plugin": "triton", **typed}


async def test_triton_that_refuses_and_what_was_typed(options: Walk, triton: KServeServer) -> None:
    await options.choose("detector_triton")
    for changed, problem in (
        ({"token": "wrong"}, Problem.DETECTOR_UNAUTHORIZED),
        ({"model": "absent"}, Problem.DETECTOR_NO_MODEL),
        ({"urls": ["http://127.0.0.1:1"]}, Problem.DETECTOR_UNREACHABLE),
    ):
        typed = {"urls": [triton.url], "model": "yolo", "token": SECRET, **changed}
        await options.answer(**typed)
        assert options.step == "detector_triton"
        assert options.result["errors"] == {"base": problem}
        assert {name: options.suggested(name) for name in typed} == typed
        assert SECRET not in options.result["description_placeholders"]["detail"]


@pytest.mark.parametrize(
    ("urls", "error"),
    [
        ([], "no_server"),
        ([" "], "no_server"),
        (["host:8000"], "invalid_server_url"),
        (["http://host", "ftp://host"], "invalid_server_url"),
        (["http://"], "invalid_url"),
        (["http://user:********@host"], "secret_hidden"),
    ],
)
async def test_bad_addresses(options: Walk, urls: list[str], error: str) -> None:
    await options.choose("detector_triton")
    await options.answer(urls=urls, model="yolo")
    assert options.result["errors"] == {"urls": error}
    assert options.suggested("urls") == urls


async def test_secrets_are_kept_without_being_shown(hass: HomeAssistant, triton: KServeServer) -> None:
    url = f"{triton.url}/?token={SECRET}"
    walk = await open_options(hass, {"plugin": "triton", "urls": [url], "model": "old", "token": SECRET})
    assert SECRET not in str(walk.result)
    await walk.choose("detector_triton")
    assert SECRET not in str(walk.result)
    assert walk.suggested("urls") == [f"{triton.url}/?token=********"]
    assert walk.suggested("token") == KEY_NOT_CHANGED
    await walk.answer(urls=walk.suggested("urls"), token=KEY_NOT_CHANGED, model="yolo")
    assert SECRET not in str(walk.result)
    await walk.answer()
    assert walk.detector == {"plugin": "triton", "urls": [url], "model": "yolo", "token": SECRET}
    # They belong to one detector, and are not handed to another.
    other = await open_options(hass)
    await other.choose("detector_deepstack")
    assert other.suggested("urls") is None
    assert other.suggested("token") is None


async def test_no_secret_is_logged(
    hass: HomeAssistant, options: Walk, triton: KServeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await options.choose("detector_triton")
    for model_name in ("absent", "yolo"):
        await options.answer(urls=[f"{triton.url}/?token={SECRET}"], token=SECRET, model=model_name)
    await options.answer()
    ours = [record for record in caplog.records if "nemotron" in record.name]
    assert SECRET not in "".join(record.getMessage() for record in ours)


async def test_deepstack_offers_the_models_of_its_owner(options: Walk, deep: DeepStackServer) -> None:
    await options.choose("detector_deepstack")
    await options.answer(urls=[deep.url], token=SECRET)
    assert options.step == "deepstack_model"
    assert options.choices("model") == ["driveway"]
    await options.answer(model="driveway")
    assert options.measured
    await options.answer()
    assert options.detector == {"plugin": "deepstack", "urls": [deep.url], "token": SECRET, "model": "driveway"}


@pytest.mark.parametrize("listed", [None, []])
async def test_deepstack_without_a_list(options: Walk, deep: DeepStackServer, listed: list[str] | None) -> None:
    deep.listed = listed
    await options.choose("detector_deepstack")
    await options.answer(urls=[deep.url], token=SECRET)
    await options.answer()
    assert options.measured
    await options.answer()
    assert options.detector == {"plugin": "deepstack", "urls": [deep.url], "token": SECRET, "model": ""}


async def test_deepstack_whose_list_is_nested_without_end(
    options: Walk, deep: DeepStackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep, "answer", lambda *_request: (200, {}, b"[" * 198_000))
    await options.choose("detector_deepstack")
    await options.answer(urls=[deep.url], token=SECRET)
    assert options.step == "deepstack_model"
    assert options.result["data_schema"]({"model": "typed"}) == {"model": "typed"}


async def test_deepstack_that_fails_keeps_all_that_was_typed(options: Walk, deep: DeepStackServer) -> None:
    await options.choose("detector_deepstack")
    await options.answer(urls=[deep.url], token="wrong")
    await options.answer(model="driveway")
    assert options.step == "detector_deepstack"
    assert options.result["errors"] == {"base": Problem.DETECTOR_UNAUTHORIZED}
    assert options.suggested("token") == "wrong"
    await options.answer(urls=[deep.url], token=SECRET)
    assert options.suggested("model") == "driveway"
    await options.answer(model="driveway")
    assert options.measured


# --- the catalogue --------------------------------------------------------------------------------------------------


@pytest.fixture
async def catalogue(
    hass: HomeAssistant, socket_enabled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FileServer]:
    """A catalogue of one ncnn model, on a server of ours."""
    content = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", MODEL)).read_bytes()
    async with serving(content, tmp_path) as (server, session):
        server.session = session  # type: ignore[attr-defined]

        def load() -> tuple[CatalogueModel, ...]:
            about = {"id": "demo", "name": "Demo", "plugin": "ncnn", "file": "demo.zip", "width": 320, "height": 320}
            return (
                CatalogueModel(
                    **about,  # type: ignore[arg-type]
                    size=server.file.size,
                    sha256=server.file.sha256,
                    url=server.file.url,
                    classes=80,
                    licence="MIT",
                    publisher="https://example.org",
                ),
            )

        wanted = load()
        monkeypatch.setattr(model_flow, "load_catalogue", lambda: wanted)
        monkeypatch.setattr(model_flow, "async_get_clientsession", lambda _: session)
        yield server


async def test_catalogue(hass: HomeAssistant, options: Walk, catalogue: FileServer) -> None:
    told: list[float] = []
    hass.bus.async_listen("data_entry_flow_progress_update", lambda event: told.append(event.data["progress"]))
    await options.choose("detector_ncnn", "model_catalogue")
    await options.answer(model="demo")
    assert options.measured
    assert told[-1] == 1.0
    await options.answer()
    (stored,) = model_store(hass).all()
    assert stored.name == "Demo"
    assert options.detector == {"plugin": "ncnn", "model": stored.path}
    # What is there is not downloaded again.
    asked = len(catalogue.asked)
    again = await open_options(hass)
    await again.choose("detector_ncnn", "model_catalogue")
    await again.answer(model="demo")
    assert again.measured
    assert len(catalogue.asked) == asked


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ({"content": b"PK\x03\x04 something else"}, "download_changed"),
        ({"status": 404}, "download_refused"),
    ],
)
async def test_catalogue_that_fails(
    hass: HomeAssistant, options: Walk, catalogue: FileServer, fault: dict[str, Any], problem: str
) -> None:
    good = {name: getattr(catalogue, name) for name in fault}
    for name, value in fault.items():
        setattr(catalogue, name, value)
    await options.choose("detector_ncnn", "model_catalogue")
    await options.answer(model="demo")
    assert options.step == "model_catalogue"
    assert options.result["errors"] == {"base": problem}
    assert options.suggested("model") == "demo"
    assert model_store(hass).all() == []
    for name, value in good.items():
        setattr(catalogue, name, value)
    await options.answer(model="demo")
    assert options.measured


async def test_download_that_the_disk_refuses(hass: HomeAssistant, options: Walk, catalogue: FileServer) -> None:
    models = Path(hass.config.path(DOMAIN, "models"))
    models.parent.mkdir(parents=True, exist_ok=True)
    models.touch()
    await options.choose("detector_ncnn", "model_catalogue")
    await options.answer(model="demo")
    assert options.step == "model_catalogue"
    assert options.result["errors"] == {"base": "download_unwritable"}
    assert options.result["description_placeholders"]["detail"] != "-"
    models.unlink()
    await options.answer(model="demo")
    assert options.measured


async def test_model_that_another_window_downloads(hass: HomeAssistant, catalogue: FileServer) -> None:
    one, two = await open_options(hass), await open_options(hass)
    await one.choose("detector_ncnn", "model_catalogue")
    await two.choose("detector_ncnn", "model_catalogue")
    catalogue.pause = asyncio.Event()
    await one.begin(model="demo")
    async with asyncio.timeout(10):
        while not catalogue.asked:
            await asyncio.sleep(0.01)
    await two.answer(model="demo")
    assert two.result["errors"] == {"base": "download_busy"}
    catalogue.pause.set()
    await one.wait()
    assert one.measured
    await two.answer(model="demo")
    assert two.measured
    assert len(model_store(hass).all()) == 1


async def test_what_nobody_foresaw_leads_back_to_the_form(
    options: Walk, catalogue: FileServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_arguments: object) -> None:
        raise LookupError(f"https://user:{SECRET}@example.org/")

    with monkeypatch.context() as patched:
        patched.setattr(model_flow, "async_download", fail)
        await options.choose("detector_ncnn", "model_catalogue")
        await options.answer(model="demo")
    assert options.step == "model_catalogue"
    assert options.result["errors"] == {"base": "unknown"}
    assert options.suggested("model") == "demo"
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "LookupError" in record.getMessage()
    assert SECRET not in caplog.text
    await options.answer(model="demo")
    assert options.measured


async def test_without_a_catalogue_none_is_offered(options: Walk) -> None:
    """No model of ncnn's form is published by those who trained it."""
    await options.choose("detector_ncnn")
    assert set(options.result["menu_options"]) == {"model_upload", "model_path"}


# --- the environment ------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(hass: HomeAssistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The environment of a package of a few bytes, in place of gigabytes."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(f"{environment.__name__}.shutil.disk_usage", lambda _: usage._replace(free=50_000_000_000))
    wheel(tmp_path / "packages", "tiny")
    wheel(tmp_path / "packages", "stub")
    made = Environment(
        Path(hass.config.cache_path(DOMAIN, "ultralytics")),
        packages=lambda build: Packages(wheels=("tiny",), stubs=("stub",) if build.tensorrt else ()),
        arguments=("--no-index", "--find-links", str(tmp_path / "packages")),
    )
    hass.data[environments._ENVIRONMENT] = made
    return made


async def test_ultralytics_from_nothing(
    hass: HomeAssistant, options: Walk, tiny: Environment, tmp_path: Path, no_trial: list[tuple[DetectorConfig, str]]
) -> None:
    assert async_environment(hass) is tiny
    await options.choose("detector_ultralytics")
    assert options.step == "environment_install"
    assert options.result["description_placeholders"]["free"] == "50.0 GB"
    await options.answer(accelerator="gpu", tensorrt=True)
    assert options.step == "detector_model"
    assert await tiny.async_build() == Build(tensorrt=True)
    assert "model_catalogue" in options.result["menu_options"]
    file = samples.torch_file(tmp_path / "best.pt", tmp_path / "evil")
    await options.choose("model_path")
    await options.answer(model=str(file))
    assert options.step == "detector_tuning"
    await options.answer(half=True, tensorrt=True, device=" cuda:1 ")
    assert options.measured == {
        "ms": 2.0, "fps": 500.0, "cameras": 100, "device": "GPU", "input": "640 x 640", "classes": 80,
    }  # fmt: skip
    await options.answer()
    assert options.detector == {
        "plugin": "ultralytics", "model": str(file), "half": True, "tensorrt": True, "device": "cuda:1",
    }  # fmt: skip
    ((config, python),) = no_trial
    assert python == tiny.python
    assert config == DetectorConfig(plugin="ultralytics", model=str(file), half=True, tensorrt=True, device="cuda:1")
    assert not (tmp_path / "evil").exists()


async def test_ultralytics_is_tried_on_its_own_python(
    hass: HomeAssistant, options: Walk, tiny: Environment, tmp_path: Path
) -> None:
    """What is in that environment here is no detector: the trial finds that out, and what was typed is kept."""
    await options.choose("detector_ultralytics")
    await options.answer(accelerator="cpu", tensorrt=True)
    # Without a GPU there is nothing for TensorRT.
    assert await tiny.async_build() == replace(Build(), accelerator=environment.Accelerator.CPU)
    await options.choose("model_path")
    await options.answer(model=str(samples.onnx(tmp_path / "best.onnx")))
    await options.answer(half=False, tensorrt=False)
    assert options.step == "detector_tuning"
    assert list(options.result["errors"].values()) == [Problem.DETECTOR_CRASHED] or (
        options.result["errors"] == {"base": Problem.DETECTOR_NOT_INSTALLED}
    )
    assert options.suggested("half") is False


async def test_environment_that_cannot_be_made(
    options: Walk, tiny: Environment, tmp_path: Path, no_trial: list[tuple[DetectorConfig, str]]
) -> None:
    shutil.rmtree(tmp_path / "packages")
    (tmp_path / "packages").mkdir()
    await options.choose("detector_ultralytics")
    await options.answer(accelerator="cpu", tensorrt=False)
    assert options.step == "environment_install"
    assert options.result["errors"] == {"base": "environment_failed"}
    assert "tiny" in options.result["description_placeholders"]["detail"]
    assert options.suggested("accelerator") == "cpu"
    wheel(tmp_path / "packages", "tiny")
    await options.answer(accelerator="cpu", tensorrt=False)
    assert options.step == "detector_model"


async def test_environment_whose_folder_cannot_be_made(hass: HomeAssistant, options: Walk, tiny: Environment) -> None:
    folder = Path(hass.config.cache_path(DOMAIN, "ultralytics"))
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.touch()
    await options.choose("detector_ultralytics")
    await options.answer(accelerator="cpu", tensorrt=False)
    assert options.step == "environment_install"
    assert options.result["errors"] == {"base": "environment_failed"}
    assert options.result["description_placeholders"]["detail"] != "-"
    folder.parent.unlink()
    await options.answer(accelerator="cpu", tensorrt=False)
    assert options.step == "detector_model"


async def test_environment_without_space(
    options: Walk, tiny: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(f"{environment.__name__}.shutil.disk_usage", lambda _: usage._replace(free=4_000_000_000))
    await options.choose("detector_ultralytics")
    await options.answer(accelerator="gpu", tensorrt=False)
    assert options.result["errors"] == {"base": "environment_space"}
    assert options.result["description_placeholders"]["free"] == "4.0 GB"


async def test_environment_is_removed_when_nobody_needs_it(hass: HomeAssistant, tiny: Environment) -> None:
    await tiny.async_install(Build(accelerator=environment.Accelerator.CPU), lambda _: None)
    walk = await open_options(hass, {"plugin": "ultralytics", "model": "/models/best.pt"})
    await walk.choose("detector_ultralytics", "environment_remove")
    await walk.answer()
    assert walk.result["errors"] == {"base": "environment_in_use"}
    (entry,) = hass.config_entries.async_entries(DOMAIN)
    hass.config_entries.async_update_entry(entry, options={"detector": NCNN})
    await walk.answer()
    assert walk.step == "detector"
    assert not Path(tiny.python).exists()


async def test_environment_that_is_made_anew_under_a_detector_starts_it_again(
    hass: HomeAssistant, tiny: Environment
) -> None:
    await tiny.async_install(Build(accelerator=environment.Accelerator.CPU), lambda _: None)
    walk = await open_options(hass, {"plugin": "ultralytics", "model": "/models/best.pt"})
    await walk.choose("detector_ultralytics", "environment_install")
    with patch.object(hass.config_entries, "async_schedule_reload") as reload:
        await walk.answer(accelerator="cpu", tensorrt=False)
    assert walk.step == "detector_model"
    reload.assert_called_once()


async def test_two_windows_do_not_get_in_each_others_way(hass: HomeAssistant, tiny: Environment) -> None:
    one, two = await open_options(hass), await open_options(hass)
    await one.choose("detector_ultralytics")
    await two.choose("detector_ultralytics")
    await one.begin(accelerator="cpu", tensorrt=False)
    await asyncio.sleep(0)
    await two.answer(accelerator="cpu", tensorrt=False)
    assert two.result["errors"] == {"base": "environment_busy"}
    await one.wait()
    assert one.step == "detector_model"


async def test_flow_that_is_closed_ends_the_installation(hass: HomeAssistant, options: Walk, tiny: Environment) -> None:
    await options.choose("detector_ultralytics")
    await options.begin(accelerator="cpu", tensorrt=False)
    flow = hass.config_entries.options._progress[options.result["flow_id"]]
    assert isinstance(flow, detector_flow.DetectorFlow)
    job = flow._draft.job
    assert job is not None
    await asyncio.sleep(0.05)
    hass.config_entries.options.async_abort(options.result["flow_id"])
    with pytest.raises(asyncio.CancelledError):
        await job
    assert not Path(tiny.python).exists()


# --- a model for ncnn -------------------------------------------------------------------------------------------------

EXPORTER = f"""
import shutil, sys
class YOLO:
    def __init__(self, path):
        self.path = path
    def export(self, *, format, imgsz, half):
        assert (format, imgsz, half) == ("ncnn", 480, True)
        if "broken" in self.path:
            raise SystemExit("no model at all")
        shutil.copytree({str(MODEL)!r}, self.path.removesuffix(".pt") + "_ncnn_model", copy_function=shutil.copyfile)
"""


@pytest.fixture
async def exporting(hass: HomeAssistant, tiny: Environment, tmp_path: Path) -> Environment:
    """An environment with a library that exports as Ultralytics' does, as far as it is asked here."""
    packages = tmp_path / "packages"
    for name, content in (("ultralytics", EXPORTER), ("ncnn", ""), ("pnnx", "")):
        wheel(packages, name, content, version={"ncnn": "1.0.20261020", "pnnx": "20260526"}.get(name, "1.0"))
    await tiny.async_install(Build(accelerator=environment.Accelerator.CPU), lambda _: None)
    await tiny.async_add(["ultralytics"])
    return tiny


async def test_model_for_ncnn(
    hass: HomeAssistant,
    exporting: Environment,
    options: Walk,
    tmp_path: Path,
    no_trial: list[tuple[DetectorConfig, str]],
) -> None:
    store = model_store(hass)
    await options.choose("detector_ultralytics")
    assert "model_export" not in options.result["menu_options"]
    weights = store.add_upload(samples.torch_file(tmp_path / "a.pt", tmp_path / "evil"), "yard.pt", "ultralytics")
    store.add_upload(samples.onnx(tmp_path / "b.onnx"), "other.onnx", "ultralytics")
    walk = await open_options(hass)
    await walk.choose("detector_ultralytics", "model_export")
    assert walk.choices("model") == [weights.id]
    await walk.answer(model=weights.id, side="480")
    assert walk.step == "model_exported"
    # It was tried first: that is what finds out whether it is more than a model.
    ((tried, python),) = no_trial
    assert tried.model == weights.path
    assert python == exporting.python
    (made,) = (model for model in store.all() if model.kind == "ncnn")
    assert made.name == "yard 480"
    assert walk.result["description_placeholders"]["path"] == made.path
    assert {path.name for path in Path(made.path).iterdir()} == {"model.ncnn.param", "model.ncnn.bin", "metadata.yaml"}
    await walk.choose("detector_trial")
    await walk.wait()
    await walk.answer()
    assert walk.detector == {"plugin": "ncnn", "model": made.path}


async def test_model_for_ncnn_that_cannot_be_made(
    hass: HomeAssistant,
    exporting: Environment,
    options: Walk,
    tmp_path: Path,
    no_trial: list[tuple[DetectorConfig, str]],
) -> None:
    weights = model_store(hass).add_upload(
        samples.torch_file(tmp_path / "a.pt", tmp_path / "evil"), "broken.pt", "ultralytics"
    )
    await options.choose("detector_ultralytics", "model_export")
    await options.answer(model=weights.id, side="480")
    assert options.step == "model_export"
    assert options.result["errors"] == {"base": "environment_failed"}
    assert options.result["description_placeholders"]["detail"] == "no model at all"
    assert options.suggested("side") == "480"
    assert [model.id for model in model_store(hass).all()] == [weights.id]


async def test_model_for_ncnn_where_no_file_can_be_made(
    hass: HomeAssistant,
    exporting: Environment,
    options: Walk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_trial: list[tuple[DetectorConfig, str]],
) -> None:
    weights = model_store(hass).add_upload(
        samples.torch_file(tmp_path / "a.pt", tmp_path / "evil"), "yard.pt", "ultralytics"
    )
    await options.choose("detector_ultralytics", "model_export")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    await options.answer(model=weights.id, side="480")
    assert options.step == "model_export"
    assert options.result["errors"] == {"base": "environment_failed"}
    assert options.result["description_placeholders"]["detail"] == "No such file or directory"


async def test_model_that_the_trial_refuses_is_not_exported(
    hass: HomeAssistant, exporting: Environment, options: Walk, tmp_path: Path
) -> None:
    """The library here is none that the detector can use; what matters is that nothing follows a trial that fails."""
    weights = model_store(hass).add_upload(
        samples.torch_file(tmp_path / "a.pt", tmp_path / "evil"), "yard.pt", "ultralytics"
    )
    await options.choose("detector_ultralytics", "model_export")
    await options.answer(model=weights.id, side="480")
    assert options.step == "model_export"
    assert options.result["errors"]
    assert [model.id for model in model_store(hass).all()] == [weights.id]
    assert not (tmp_path / "evil").exists()
