"""What the detector's steps have in common: a draft, forms that are shown again when what follows fails, waiting."""

from abc import abstractmethod
import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from homeassistant.config_entries import ConfigEntryBaseFlow, ConfigFlowResult
import probatio as vol

from .checks import hide_secrets
from .detector_forms import FIELD_PLUGIN, FIELD_TOKEN, FIELD_URLS
from .forms import KEY_NOT_CHANGED, UNKNOWN, step_after
from .vision.trial import Trial

_VISIBLE = 0.01
"""A step of progress that is worth telling."""


@dataclass(slots=True)
class Draft:
    """What is chosen so far."""

    settings: dict[str, Any] = field(default_factory=dict)
    """As the option will have it."""
    form: str = ""
    """The step that is shown again if what follows fails."""
    typed: Mapping[str, Any] | None = None
    """What was typed there."""
    errors: dict[str, str] = field(default_factory=dict)
    detail: str = ""
    """Words about the error, for people who look for the cause."""
    job: asyncio.Task[str] | None = None
    """What is waited for; its result is the step that follows."""
    told: float = 0.0
    """How much of it was said to be done."""
    trial: Trial | None = None


class DraftFlow(ConfigEntryBaseFlow):
    """Steps that choose a detector. Whoever has them says what is chosen now, and what becomes of the choice."""

    def __init__(self) -> None:
        """Begin with nothing chosen."""
        self._draft = Draft()

    @property
    @abstractmethod
    def _present_detector(self) -> Mapping[str, Any]:
        """The detector of the options; empty for none."""

    @abstractmethod
    async def _async_detector_chosen(self, detector: dict[str, Any] | None) -> ConfigFlowResult:
        """Go on with this detector, or with none."""

    @property
    def _watched_labels(self) -> tuple[str, ...]:
        """What the cameras watch for, by COCO's names."""
        return ()

    def _handle_environment_changed(self) -> None:
        """The environment that the present detector runs on was made anew."""

    @abstractmethod
    async def async_step_detector(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Begin: which detector."""

    @abstractmethod
    async def async_step_detector_trial(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """End: try it."""

    @abstractmethod
    async def _async_try_draft(self) -> str:
        """Try the detector of the draft; returns the step that follows, the draft's form if it failed."""

    def _note_typed(self, form: str, typed: Mapping[str, Any], errors: dict[str, str] | None = None) -> None:
        """Remember what was typed where."""
        self._draft.form, self._draft.typed, self._draft.errors, self._draft.detail = form, typed, errors or {}, ""

    def _note_failure(self, problem: str, detail: str = "") -> str:
        """Keep why what was typed cannot be used, for the form where it was; returns that form."""
        self._draft.errors, self._draft.detail = {"base": problem}, detail
        return self._draft.form

    def _show_draft(
        self, step: str, schema: vol.Schema, present: Mapping[str, Any] | None = None, **placeholders: str
    ) -> ConfigFlowResult:
        """Show a form: with what was typed and why that failed, if it did."""
        draft = self._draft
        again = draft.form == step and draft.typed is not None
        errors, detail = (draft.errors, draft.detail) if again else ({}, "")
        draft.errors, draft.detail = {}, ""
        return self.async_show_form(
            step_id=step,
            data_schema=self.add_suggested_values_to_schema(schema, draft.typed if again else present),
            errors=errors,
            description_placeholders={"detail": detail or "-", **placeholders},
            last_step=False,
        )

    def _present_settings(self, plugin: str) -> dict[str, Any]:
        """Return the present settings of a detector as a form has them, without secrets."""
        present = self._present_detector
        if present.get(FIELD_PLUGIN) != plugin:
            return {}
        shown = {**present, FIELD_URLS: [hide_secrets(url) for url in present.get(FIELD_URLS, ())]}
        return {**shown, FIELD_TOKEN: KEY_NOT_CHANGED} if present.get(FIELD_TOKEN) else shown

    def _begin_job(self, job: Coroutine[Any, Any, str], name: str) -> None:
        """Begin what will be waited for."""
        # Not at once: what is done before progress was shown can be followed by no other step.
        self._draft.told = 0.0
        self._draft.job = self.hass.async_create_background_task(job, f"nemotron_security {name}", eager_start=False)

    def _wait_for_job(self, step: str) -> ConfigFlowResult:
        """Show progress until the job is done, then go on with the step that it returned."""
        job = self._draft.job
        assert job is not None
        if not job.done():
            return self.async_show_progress(step_id=step, progress_action=step, progress_task=job)
        self._draft.job = None
        return self.async_show_progress_done(next_step_id=step_after(job) or self._note_failure(UNKNOWN))

    def _tell_progress(self, share: float) -> None:
        """Show how much of the job is done, in steps that can be seen."""
        if share - self._draft.told >= _VISIBLE or share == 1:
            self._draft.told = share
            self.async_update_progress(share)
