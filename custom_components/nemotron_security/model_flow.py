"""The steps for a detector that runs on this machine: its model, and the environment of one with large packages."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from homeassistant.components.file_upload import process_uploaded_file
from homeassistant.config_entries import ConfigFlowResult
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from .const import PLUGIN_NCNN, PLUGIN_ULTRALYTICS
from .detection.catalogue import CatalogueModel, load_catalogue
from .detection.download import DownloadError, async_download
from .detection.environment import Accelerator, Build, EnvironmentFailure
from .detection.export import async_export
from .detection.model_files import KINDS, ModelFileError, ModelFileProblem, ModelKind, check_kind, read_labels
from .detection.model_store import StoredModel
from .detector_draft import DraftFlow
from .detector_forms import (
    ENVIRONMENT_SCHEMA,
    FIELD_ACCELERATOR,
    FIELD_DEVICE,
    FIELD_FILE,
    FIELD_HALF,
    FIELD_LABELS_FILE,
    FIELD_MODEL,
    FIELD_PLUGIN,
    FIELD_SIDE,
    FIELD_TENSORRT,
    NOTHING,
    PATH_SCHEMA,
    TUNING_SCHEMA,
    catalogue_schema,
    export_schema,
    remove_schema,
    stored_schema,
    upload_schema,
)
from .environments import async_environment, model_store, needs_environment
from .forms import async_docs_url
from .vision.messages import Problem

_GIGABYTE = 1e9


class ModelFlow(DraftFlow):
    """The steps. A detector is chosen by then: the draft says which."""

    async def async_step_detector_model(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask where the model comes from."""
        catalogue, stored = await self._async_models()
        options = ["model_catalogue"] if catalogue else []
        options += ["model_stored"] if stored else []
        options += ["model_upload", "model_path"]
        options += ["models_remove"] if stored else []
        return self.async_show_menu(
            step_id="detector_model",
            menu_options=options,
            description_placeholders={"docs_url": await async_docs_url(self.hass)},
        )

    async def async_step_model_catalogue(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask which model of the catalogue."""
        catalogue, stored = await self._async_models()
        if user_input is None:
            return self._show_draft("model_catalogue", catalogue_schema(catalogue))
        self._note_typed("model_catalogue", user_input)
        chosen = next(model for model in catalogue if model.id == user_input[FIELD_MODEL])
        if there := [model for model in stored if model.catalogue_id == chosen.id]:
            return await self._async_model_chosen(there[0].path)
        self._begin_job(self._async_download(chosen), "download of a model")
        return await self.async_step_model_download()

    async def async_step_model_download(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Download while somebody waits."""
        return self._wait_for_job("model_download")

    async def _async_download(self, model: CatalogueModel) -> str:
        """Download a model; returns the step that follows."""
        store = model_store(self.hass)
        session = async_get_clientsession(self.hass)
        try:
            await async_download(session, model.remote, store.download_target(model), self._tell_progress)
            stored = await self.hass.async_add_executor_job(store.add_download, model)
        except (DownloadError, ModelFileError) as err:
            return self._note_failure(err.problem, err.detail)
        self._draft.settings[FIELD_MODEL] = stored.path
        return "model_there"

    async def async_step_model_there(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Go on with the model that was downloaded."""
        return await self._async_model_chosen(self._draft.settings[FIELD_MODEL])

    async def async_step_model_stored(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask which of the models that we keep."""
        _, stored = await self._async_models()
        if user_input is None:
            present = next((model.id for model in stored if model.path == self._present_detector.get(FIELD_MODEL)), "")
            return self._show_draft("model_stored", stored_schema(stored), {FIELD_MODEL: present} if present else {})
        self._note_typed("model_stored", user_input)
        chosen = self._chosen(stored, user_input)
        if chosen is None:
            return self._show_draft("model_stored", stored_schema(stored))
        return await self._async_model_chosen(chosen.path)

    def _chosen(self, models: Sequence[StoredModel], user_input: dict[str, Any]) -> StoredModel | None:
        """Return the model that somebody chose, or let the form say that it is gone: another window removed it."""
        chosen = next((model for model in models if model.id == user_input[FIELD_MODEL]), None)
        if chosen is None:
            self._note_failure(Problem.MODEL_MISSING, user_input[FIELD_MODEL])
        return chosen

    async def async_step_model_path(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask where on this machine the model lies."""
        if user_input is None:
            plugin = self._draft.settings[FIELD_PLUGIN]
            return self._show_draft("model_path", PATH_SCHEMA, self._present_settings(plugin))
        self._note_typed("model_path", user_input)
        path, labels = user_input[FIELD_MODEL].strip(), user_input.get(FIELD_LABELS_FILE, "").strip()
        for name, typed in ((FIELD_MODEL, path), (FIELD_LABELS_FILE, labels)):
            if typed and not Path(typed).is_absolute():
                self._draft.errors[name] = "path_not_absolute"
        if not self._draft.errors:
            return await self._async_checked(lambda: self._at_path(path, labels))
        return self._show_draft("model_path", PATH_SCHEMA)

    def _at_path(self, path: str, labels: str) -> str:
        """Look at a model where it lies, and at its labels; returns its path. Blocks."""
        plugin = self._draft.settings[FIELD_PLUGIN]
        file = Path(path)
        if check_kind(file, plugin) is ModelKind.NCNN and not file.is_dir():
            path = model_store(self.hass).add_upload(file, file.name, plugin).path
        self._take_labels(Path(labels) if labels else None)
        return path

    async def async_step_model_upload(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for a file from the user's own machine."""
        schema = upload_schema(self._draft.settings[FIELD_PLUGIN])
        if user_input is None:
            return self._show_draft("model_upload", schema)
        # What was uploaded is gone once it was looked at: the form begins anew.
        self._note_typed("model_upload", {})
        return await self._async_checked(lambda: self._uploaded(user_input))

    def _uploaded(self, user_input: Mapping[str, str]) -> str:
        """Keep an uploaded model; returns its path. Blocks."""
        if labels := user_input.get(FIELD_LABELS_FILE):
            with process_uploaded_file(self.hass, labels) as file:
                self._take_labels(file)
        with process_uploaded_file(self.hass, user_input[FIELD_FILE]) as file:
            return model_store(self.hass).add_upload(file, file.name, self._draft.settings[FIELD_PLUGIN]).path

    def _take_labels(self, file: Path | None) -> None:
        self._draft.settings.pop("labels", None)
        if file is not None:
            self._draft.settings["labels"] = list(read_labels(file))

    async def _async_checked(self, look: Callable[[], str]) -> ConfigFlowResult:
        """Look at a model in an executor, and go on with it if it is one."""
        try:
            path = await self.hass.async_add_executor_job(look)
        except ModelFileError as err:
            problem, detail = err.problem, err.detail
        except ValueError:  # Home Assistant keeps an upload for a while only
            problem, detail = ModelFileProblem.NOT_FOUND, ""
        else:
            return await self._async_model_chosen(path)
        self._note_failure(problem, detail)
        step: Callable[[], Awaitable[ConfigFlowResult]] = getattr(self, f"async_step_{self._draft.form}")
        return await step()

    async def _async_model_chosen(self, path: str) -> ConfigFlowResult:
        self._draft.settings[FIELD_MODEL] = path
        if self._draft.settings[FIELD_PLUGIN] == PLUGIN_ULTRALYTICS:
            return await self.async_step_detector_tuning()
        return await self.async_step_detector_trial()

    async def async_step_detector_tuning(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask how a GPU shall be used."""
        if user_input is None:
            return self._show_draft("detector_tuning", TUNING_SCHEMA, self._present_settings(PLUGIN_ULTRALYTICS))
        self._note_typed("detector_tuning", user_input)
        self._draft.settings |= {
            FIELD_HALF: user_input[FIELD_HALF],
            FIELD_TENSORRT: user_input[FIELD_TENSORRT],
            FIELD_DEVICE: user_input.get(FIELD_DEVICE, "").strip(),
        }
        return await self.async_step_detector_trial()

    async def async_step_models_remove(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask which of the models that we keep shall go; the one in use stays."""
        _, stored = await self._async_models()
        unused = [model for model in stored if model.path != self._present_detector.get(FIELD_MODEL)]
        if user_input is None:
            return self._show_draft("models_remove", remove_schema(unused))
        for model_id in user_input[FIELD_MODEL]:
            await self.hass.async_add_executor_job(model_store(self.hass).remove, model_id)
        return await self.async_step_detector_model()

    async def _async_models(self) -> tuple[list[CatalogueModel], list[StoredModel]]:
        """Return the models for the detector that is chosen: of the catalogue, and those that we keep."""
        plugin = self._draft.settings[FIELD_PLUGIN]

        def read() -> tuple[list[CatalogueModel], list[StoredModel]]:
            catalogue = [model for model in load_catalogue() if model.plugin == plugin]
            return catalogue, [model for model in model_store(self.hass).all() if model.kind in KINDS[plugin]]

        return await self.hass.async_add_executor_job(read)

    # --- the environment --------------------------------------------------------------------------------------------

    async def async_step_environment_install(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask what the environment shall make use of."""
        environment = async_environment(self.hass)
        if user_input is None:
            sizes = {accelerator: Build(accelerator=accelerator).space for accelerator in Accelerator}
            return self._show_draft(
                "environment_install",
                ENVIRONMENT_SCHEMA,
                free=f"{await environment.async_free() / _GIGABYTE:.1f} GB",
                gpu=f"{sizes[Accelerator.GPU] / _GIGABYTE:.0f} GB",
                cpu=f"{sizes[Accelerator.CPU] / _GIGABYTE:.0f} GB",
            )
        self._note_typed("environment_install", user_input)
        gpu = user_input[FIELD_ACCELERATOR] == Accelerator.GPU
        build = Build(
            accelerator=Accelerator(user_input[FIELD_ACCELERATOR]), tensorrt=gpu and user_input[FIELD_TENSORRT]
        )
        self._begin_job(self._async_install(build), "installation of a detector")
        return await self.async_step_environment_progress()

    async def async_step_environment_progress(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Install while somebody waits."""
        return self._wait_for_job("environment_progress")

    async def _async_install(self, build: Build) -> str:
        """Make the environment; returns the step that follows."""
        try:
            await async_environment(self.hass).async_install(build, self._tell_progress)
        except EnvironmentFailure as err:
            return self._note_failure(err.problem, err.detail)
        if needs_environment(self._present_detector.get(FIELD_PLUGIN, "")):
            self._handle_environment_changed()
        return "detector_model"

    async def async_step_environment_remove(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask whether the environment shall really go."""
        if user_input is None:
            return self._show_draft("environment_remove", NOTHING)
        self._note_typed("environment_remove", user_input)
        if needs_environment(self._present_detector.get(FIELD_PLUGIN, "")):
            self._note_failure("environment_in_use")
            return await self.async_step_environment_remove()
        try:
            await async_environment(self.hass).async_remove()
        except EnvironmentFailure as err:
            self._note_failure(err.problem)
            return await self.async_step_environment_remove()
        return await self.async_step_detector()

    # --- a model for other machines -------------------------------------------------------------------------------

    async def async_step_model_export(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask which model shall be turned into ncnn's form."""
        models = await self._async_exportable()
        if user_input is None:
            return self._show_draft("model_export", export_schema(models))
        self._note_typed("model_export", user_input)
        chosen = self._chosen(models, user_input)
        if chosen is None:
            return self._show_draft("model_export", export_schema(models))
        self._begin_job(self._async_export(chosen, int(user_input[FIELD_SIDE])), "export of a model")
        return await self.async_step_export_progress()

    async def async_step_export_progress(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Export while somebody waits."""
        return self._wait_for_job("export_progress")

    async def _async_export(self, model: StoredModel, side: int) -> str:
        """Try the model, which tells whether it is more than one, and export it; returns the step that follows."""
        self._draft.settings = {FIELD_PLUGIN: PLUGIN_ULTRALYTICS, FIELD_MODEL: model.path, FIELD_DEVICE: "cpu"}
        if (refused := await self._async_try_draft()) == self._draft.form:
            return refused
        try:
            made = await async_export(async_environment(self.hass), model_store(self.hass), model, side)
        except EnvironmentFailure as err:
            return self._note_failure(err.problem, err.detail)
        self._draft.settings = {FIELD_PLUGIN: PLUGIN_NCNN, FIELD_MODEL: made.path}
        return "model_exported"

    async def async_step_model_exported(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Say where the exported model lies, and offer to use it here."""
        return self.async_show_menu(
            step_id="model_exported",
            menu_options=["detector_trial", "detector"],
            description_placeholders={"path": self._draft.settings[FIELD_MODEL]},
        )

    async def _async_exportable(self) -> list[StoredModel]:
        stored = await self.hass.async_add_executor_job(model_store(self.hass).all)
        return [model for model in stored if model.kind is ModelKind.PT]
