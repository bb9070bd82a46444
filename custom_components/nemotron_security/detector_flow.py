"""The steps that choose a detector: which one, its model, what it needs, and how fast it is before it is saved.

Both flows have them, the set-up and the options.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
import sys
from typing import Any, Final, override

from homeassistant.config_entries import ConfigFlowResult
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from .checks import server_urls
from .const import CONF_DETECTOR, PLUGIN_DEEPSTACK, PLUGIN_NCNN, PLUGIN_TRITON, PLUGIN_ULTRALYTICS
from .detection.custom_models import async_custom_models
from .detection.environment import EnvironmentProblem, EnvironmentState, platform_problem
from .detection.model_files import ModelFileError
from .detection.options import detector_config, detector_of
from .detector_forms import (
    DEEPSTACK_SCHEMA,
    FIELD_LABELS_FILE,
    FIELD_MODEL,
    FIELD_PLUGIN,
    FIELD_TENSORRT,
    FIELD_TOKEN,
    FIELD_URLS,
    NOTHING,
    TRITON_SCHEMA,
    custom_model_schema,
    measured_schema,
    other_schema,
)
from .environments import async_environment, needs_environment
from .forms import KEY_NOT_CHANGED, async_docs_url
from .model_flow import ModelFlow
from .vision import plugins
from .vision.trial import async_try_detector

TRIAL_SECONDS: Final = 120.0
ENGINE_SECONDS: Final = 1800.0
"""A trial may take so long: TensorRT tries many ways for each layer before it has made an engine."""
_LABELS = 12
"""So many names of classes are shown."""


class DetectorFlow(ModelFlow):
    """The steps, from the first to the last."""

    # --- which one --------------------------------------------------------------------------------------------------

    @override
    async def async_step_detector(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Offer the detectors that can run here, and why one cannot."""
        impossible, others = await self.hass.async_add_executor_job(_look_around)
        nvidia = "ultralytics_impossible" if impossible else "detector_ultralytics"
        options = ["detector_ncnn", nvidia, "detector_triton", "detector_deepstack"]
        if others:
            options.append("detector_other")
        return self.async_show_menu(
            step_id="detector",
            menu_options=[*options, "detector_none"],
            description_placeholders={
                "now": _words(self._present_detector),
                "docs_url": await async_docs_url(self.hass),
            },
        )

    async def async_step_detector_none(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Choose none: only motion is seen."""
        return await self._async_detector_chosen(None)

    async def async_step_detector_ncnn(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Choose the one that runs on every machine."""
        self._draft.settings = {FIELD_PLUGIN: PLUGIN_NCNN}
        return await self.async_step_detector_model()

    async def async_step_detector_ultralytics(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Choose the one for GPUs of this machine; its environment has to be made first."""
        self._draft.settings = {FIELD_PLUGIN: PLUGIN_ULTRALYTICS}
        state = await async_environment(self.hass).async_state()
        if state is not EnvironmentState.READY:
            return await self.async_step_environment_install()
        options = ["detector_model", "environment_install", "environment_remove"]
        if await self._async_exportable():
            options.insert(1, "model_export")
        return self.async_show_menu(step_id="detector_ultralytics", menu_options=options)

    async def async_step_ultralytics_impossible(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Say why it cannot run here."""
        if user_input is not None:
            return await self.async_step_detector()
        problem, _ = await self.hass.async_add_executor_job(_look_around)
        return self.async_show_form(
            step_id="ultralytics_impossible",
            data_schema=NOTHING,
            errors={"base": problem} if problem else {},
            last_step=False,
        )

    # --- servers ----------------------------------------------------------------------------------------------------

    async def async_step_detector_triton(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for servers of KServe's protocol, and the model there."""
        if user_input is None:
            return self._show_draft("detector_triton", TRITON_SCHEMA, self._present_settings(PLUGIN_TRITON))
        if self._take_server(PLUGIN_TRITON, "detector_triton", user_input) and await self._async_name_classes(
            user_input
        ):
            return await self.async_step_detector_trial()
        return self._show_draft("detector_triton", TRITON_SCHEMA)

    async def _async_name_classes(self, typed: Mapping[str, Any]) -> bool:
        """Take the names of a server's model from a file, or those it had; tells whether that file is sound."""
        path, settings, present = typed.get(FIELD_LABELS_FILE, "").strip(), self._draft.settings, self._present_detector
        if not path:
            same = all(present.get(field) == settings.get(field) for field in (FIELD_PLUGIN, FIELD_MODEL))
            if same and (labels := present.get("labels")):
                settings["labels"] = labels
            return True
        if not Path(path).is_absolute():
            self._draft.errors[FIELD_LABELS_FILE] = "path_not_absolute"
            return False
        try:
            await self.hass.async_add_executor_job(self._take_labels, Path(path))
        except ModelFileError as err:
            self._draft.errors[FIELD_LABELS_FILE], self._draft.detail = err.problem, err.detail
        return not self._draft.errors

    async def async_step_detector_deepstack(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for servers of DeepStack's kind."""
        if user_input is None:
            return self._show_draft("detector_deepstack", DEEPSTACK_SCHEMA, self._present_settings(PLUGIN_DEEPSTACK))
        if self._take_server(PLUGIN_DEEPSTACK, "detector_deepstack", user_input):
            return await self.async_step_deepstack_model()
        return self._show_draft("detector_deepstack", DEEPSTACK_SCHEMA)

    async def async_step_deepstack_model(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask which of the server's models; it is asked for those that its owner added."""
        settings = self._draft.settings
        if user_input is not None:
            settings[FIELD_MODEL] = user_input.get(FIELD_MODEL, "").strip()
            return await self.async_step_detector_trial()
        session = async_get_clientsession(self.hass)
        names = await async_custom_models(session, settings[FIELD_URLS], settings.get(FIELD_TOKEN, ""))
        kept = self._present_detector if self._present_detector.get(FIELD_PLUGIN) == PLUGIN_DEEPSTACK else {}
        return self.async_show_form(
            step_id="deepstack_model",
            data_schema=self.add_suggested_values_to_schema(custom_model_schema(names), {**kept, **settings}),
            last_step=False,
        )

    async def async_step_detector_other(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for a detector that another package brings, and what it may want to know."""
        _, others = await self.hass.async_add_executor_job(_look_around)
        schema = other_schema(others)
        if user_input is None:
            present = self._present_detector.get(FIELD_PLUGIN, "")
            return self._show_draft(
                "detector_other", schema, self._present_settings(present) if present in others else {}
            )
        if self._take_server(user_input[FIELD_PLUGIN], "detector_other", user_input):
            return await self.async_step_detector_trial()
        return self._show_draft("detector_other", schema)

    def _take_server(self, plugin: str, form: str, typed: Mapping[str, Any]) -> bool:
        """Keep what was typed about a server, with the secrets that are kept; tells whether it is sound."""
        present = self._present_detector if self._present_detector.get(FIELD_PLUGIN) == plugin else {}
        before = self._draft.settings if self._draft.settings.get(FIELD_PLUGIN) == plugin else {}
        urls, problem = server_urls(typed.get(FIELD_URLS, ()), present.get(FIELD_URLS, ()))
        token = typed.get(FIELD_TOKEN, "").strip()
        if token == KEY_NOT_CHANGED:
            token = present.get(FIELD_TOKEN, "")
        if not urls and form != "detector_other":
            problem = "no_server"
        self._note_typed(form, typed, {FIELD_URLS: problem} if problem else {})
        # A DeepStack-like server's model is asked for on the next page: one that was chosen there is not lost.
        model = before.get(FIELD_MODEL, "") if form == "detector_deepstack" else typed.get(FIELD_MODEL, "").strip()
        self._draft.settings = detector_of(plugin=plugin, urls=urls, token=token, model=model)
        return problem is None

    # --- the trial --------------------------------------------------------------------------------------------------

    @override
    async def async_step_detector_trial(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Let the detector look at a rendered picture while somebody waits."""
        if self._draft.job is None:
            self._begin_job(self._async_try_draft(), "trial of a detector")
        return self._wait_for_job("detector_trial")

    @override
    async def _async_try_draft(self) -> str:
        """Try the detector as the worker would run it; returns the step that follows."""
        settings = self._draft.settings
        uses_environment = needs_environment(settings[FIELD_PLUGIN])
        config = detector_config({CONF_DETECTOR: settings})
        assert config is not None
        trial = await async_try_detector(
            config,
            python=async_environment(self.hass).python if uses_environment else sys.executable,
            timeout=ENGINE_SECONDS if settings.get(FIELD_TENSORRT) else TRIAL_SECONDS,
        )
        if trial.problem is not None:
            return self._note_failure(trial.problem, trial.detail)
        self._draft.trial = trial
        return "detector_measured"

    async def async_step_detector_measured(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show how fast it is, then save it."""
        trial = self._draft.trial
        if trial is None:  # only whoever calls the steps out of their order
            return await self.async_step_detector()
        if user_input is not None:
            return await self._async_detector_chosen(dict(self._draft.settings))
        # What a DeepStack-like server can find, it says only as it finds it.
        watched = () if self._draft.settings[FIELD_PLUGIN] == PLUGIN_DEEPSTACK else self._watched_labels
        return self.async_show_form(
            step_id="detector_measured",
            data_schema=measured_schema(trial, watched),
            description_placeholders={"labels": ", ".join(trial.labels[:_LABELS]) + _more(trial.labels)},
        )


def _look_around() -> tuple[EnvironmentProblem | None, list[str]]:
    """Return why `ultralytics` can never run here, and the detectors of other packages. Reads files."""
    others = [name for name in plugins.names() if name not in plugins.BUILT_IN]
    return platform_problem(), others


def _more(labels: Sequence[str]) -> str:
    return " ..." if len(labels) > _LABELS else ""


def _words(detector: Mapping[str, Any]) -> str:
    """Say in a few words which detector that is; neither its servers nor its folders."""
    if not detector:
        return "-"
    model = Path(detector.get(FIELD_MODEL, "")).name
    return f"{detector[FIELD_PLUGIN]} ({model})" if model else str(detector[FIELD_PLUGIN])
