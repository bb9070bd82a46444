"""The asynchronous face of the database: every call is one transaction, on the writer's thread or on a reader's.

No alarm waits for what is read, nor a picture for a lock of another program. Searches have a reader of their own: they
may look through all that is stored, and nothing else waits for them.

A small transaction does not wait for the disk: SQLite's write-ahead log is forced to it only at a checkpoint. A crash
of the process loses nothing that was committed; a power cut may lose the last moments, never the database.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Concatenate

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.orm import Session

from ..models import (
    Assessment,
    Backlog,
    Box,
    Detection,
    Evidence,
    HarmlessPlace,
    House,
    Incident,
    IncidentFilter,
    Judgement,
    Picture,
    PictureKind,
    Review,
    Track,
)
from . import judgements, queries
from .engine import checkpoint, for_reading, open_engine
from .errors import StoreError, StoreProblem, is_about_a_value, store_error
from .evidence import evidence
from .migrations import migrate
from .pictures import PictureFiles

_ALL = IncidentFilter()
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_PLACES = 64
"""Harmless places of a camera that count: the newest."""


class Store:
    """Incidents, tracks, detections, assessments and pictures.

    Every method may raise `StoreError`; nothing of that call was kept then, and the store works again by itself once
    the cause is gone. `LookupError` means that the incident named does not exist, `ValueError` a value that no
    database keeps, such as a time without a zone.

    Args:
        url: an SQLAlchemy URL. May hold a password: it is never logged.
        pictures: folder of the picture files; it must belong to this database alone.
        busy_timeout: seconds to wait for another program that writes to the same SQLite file.
    """

    def __init__(self, url: str, pictures: Path, *, busy_timeout: float = 5.0) -> None:
        self._address = url
        self._busy_timeout = busy_timeout
        self._closing = False
        self._files = PictureFiles(pictures)
        self._writer: ThreadPoolExecutor | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._searcher: ThreadPoolExecutor | None = None
        self._url: URL | None = None
        self._engine: Engine | None = None
        self._kept: tuple[int, ...] = ()
        """Ids of pictures that are being shown to somebody."""

    async def async_open(self) -> None:
        """Create what is missing, migrate the schema, and tidy up what a crash left.

        Raises:
            StoreError: why it cannot be used; it may be opened again later.
        """
        if self._writer is not None:
            return
        self._closing = False
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nemotron_security_writer")
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nemotron_security_reader")
        self._searcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nemotron_security_searcher")
        try:
            await self._async_run(self._writer, self._open)
        except BaseException:
            await self.async_close()
            raise

    async def async_close(self) -> None:
        """Write what was asked for, move SQLite's log into its file, and end the threads. May be called again.

        What waits to be read is not: that could take long, and nobody needs it any more.
        """
        self._closing = True
        writer, reader, searcher = self._writer, self._reader, self._searcher
        self._writer = self._reader = self._searcher = None
        if writer is None or reader is None or searcher is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(writer, self._close, reader, searcher)
        finally:
            # Nothing is left to do, so this waits for no more than the thread's own end.
            writer.shutdown(cancel_futures=True)

    async def async_start_incident(
        self,
        camera_id: str,
        tracks: Sequence[Track],
        *,
        started_at: datetime,
        assessment: Assessment,
        trigger: str | None = None,
    ) -> Incident:
        """Store a new incident with its tracks, the rules' provisional assessment, and what opened it from outside."""
        start = partial(queries.start_incident, started_at=started_at, assessment=assessment, trigger=trigger)
        return await self._async_write(start, camera_id, tracks)

    async def async_save_incident(self, incident: Incident, tracks: Sequence[Track] = ()) -> Incident:
        """Store an incident's course and insert or update these tracks.

        The course is `last_seen_at`, `ended_at`, `labels`, `zones` and `object_count`. The verdict belongs to
        `async_assess` and the picture to `async_add_picture`: what a copy from before says of them is not stored.

        Returns:
            The incident as it is stored now, with its latest verdict and picture.
        """
        return await self._async_write(queries.save_incident, incident, tracks)

    async def async_assess(self, incident_id: int, assessment: Assessment) -> Incident:
        """Store an assessment and let the incident take its verdict.

        That of the rules is taken only as long as no other analyzer has judged; `rules_score` always is, and its floor
        holds in any case. That of another analyzer ends the incident's waiting in the same transaction.
        """
        return await self._async_write(queries.assess, incident_id, assessment)

    async def async_review(self, incident_id: int, review: Review) -> Incident:
        """Store what a person makes of an incident, in the place of what was said before.

        Where something stood still in a false alarm is a harmless place from then on, until that is taken back. A
        review that is not `reviewed` takes back `reviewed_at`.
        """
        return await self._async_write(queries.review, incident_id, review)

    async def async_harmless_places(self) -> list[HarmlessPlace]:
        """List where something stood that a person called harmless, the newest first; a bounded number of a camera."""
        return await self._async_read(queries.harmless_places, _PLACES)

    async def async_forget_harmless_places(self, camera_id: str) -> int:
        """Forget a camera's harmless places; returns how many there were."""
        return await self._async_write(queries.forget_harmless_places, camera_id)

    async def async_close_open_incidents(self) -> list[Incident]:
        """End every open incident at its last sight; at start, before anything is watched."""
        return await self._async_write(queries.close_open_incidents)

    async def async_incident(self, incident_id: int) -> Incident | None:
        """Find an incident."""
        return await self._async_read(queries.incident, incident_id)

    async def async_incidents(
        self, wanted: IncidentFilter = _ALL, *, before_id: int | None = None, limit: int = 50
    ) -> list[Incident]:
        """List incidents, the newest first.

        Args:
            wanted: which ones. Its text has at most `search.LONGEST_SEARCH` characters, else `ValueError` is raised.
            before_id: only older than this incident: the next page.
            limit: at most so many.
        """
        return await self._async_read(queries.incidents, wanted, before_id, limit)

    async def async_search(
        self, wanted: IncidentFilter, *, before_id: int | None = None, limit: int = 50
    ) -> list[Incident]:
        """List incidents as `async_incidents` does, after the searches asked for before; nothing else waits for it."""
        return await self._async_run(self._searcher, partial(self._read, queries.incidents, wanted, before_id, limit))

    async def async_tracks(self, incident_id: int) -> list[Track]:
        """List an incident's tracks, the first seen first."""
        return await self._async_read(queries.tracks, incident_id)

    async def async_assessments(self, incident_id: int) -> list[Assessment]:
        """List what was said of an incident, in the order it was said."""
        return await self._async_read(queries.assessments, incident_id)

    async def async_add_detections(self, detections: Sequence[Detection]) -> list[Detection]:
        """Store detections; returns them with their ids, in the same order."""
        return await self._async_write(queries.add_detections, detections)

    async def async_detections(self, incident_id: int) -> list[Detection]:
        """List an incident's detections, in the order of their times."""
        return await self._async_read(queries.detections, incident_id)

    async def async_evidence(
        self, incident: Incident, *, nearby: Collection[str], since: datetime, most_earlier: int, most_reviewed: int
    ) -> Evidence:
        """Gather what is stored of an incident and of others that may tell something about it.

        Args:
            incident: which one.
            nearby: the cameras whose incidents before it count.
            since: only those that still went on then or later.
            most_earlier: at most so many of them.
            most_reviewed: at most so many of each mark that people gave incidents with a label in common.
        """
        return await self._async_read(
            evidence,
            incident,
            nearby=nearby,
            since=since,
            most_earlier=most_earlier,
            most_reviewed=most_reviewed,
        )

    async def async_add_picture(
        self,
        incident_id: int,
        track_id: int,
        kind: PictureKind = PictureKind.BEST,
        *,
        captured_at: datetime,
        box: Box,
        score: float,
        width: int,
        height: int,
        jpeg: bytes,
    ) -> tuple[Picture, Incident]:
        """Store a picture. It replaces, row and file, the earlier one of the same kind of the same track.

        But not one that the model was shown whose verdict counts, or that is being shown: its evidence speaks of it.

        Returns:
            The picture, and its incident, whose `picture_id` is now that of its best-scored picture.
        """
        picture = Picture(
            id=0,
            incident_id=incident_id,
            track_id=track_id,
            kind=kind,
            captured_at=captured_at,
            box=box,
            score=score,
            width=width,
            height=height,
            size=len(jpeg),
        )
        return await self._async_run(self._writer, partial(self._add_picture, picture, jpeg))

    @contextmanager
    def keeping(self, picture_ids: Collection[int]) -> Iterator[None]:
        """Let nothing replace these pictures meanwhile."""
        self._kept = (*self._kept, *picture_ids)
        try:
            yield
        finally:
            left = list(self._kept)
            for picture_id in picture_ids:
                left.remove(picture_id)
            self._kept = tuple(left)

    async def async_pictures(self, incident_id: int) -> list[Picture]:
        """List an incident's pictures, the best first."""
        return await self._async_read(queries.pictures, incident_id)

    async def async_picture(self, picture_id: int) -> tuple[Picture, str] | None:
        """Find a picture and the id of the camera that took it."""
        return await self._async_read(queries.picture, picture_id)

    async def async_picture_bytes(self) -> int:
        """Return how many bytes all pictures have."""
        return await self._async_read(queries.picture_bytes)

    def picture_path(self, picture_id: int) -> Path:
        """Return where a picture's file lies, if it is there."""
        return self._files.path(picture_id)

    async def async_read_picture(self, picture_id: int) -> bytes | None:
        """Return a picture's JPEG; None when there is no such picture or its file is gone or incomplete."""
        return await self._async_run(self._reader, partial(self._read_picture, picture_id))

    def read_pictures(self, pictures: Iterable[Picture]) -> list[bytes | None]:
        """Return the JPEGs of pictures that were found just now, each as `async_read_picture` does.

        Not for the event loop: it reads files, and asks no database.
        """
        return self._guard(lambda: [self._files.read(picture.id, picture.size) for picture in pictures])

    async def async_await_judgement(self, incident_id: int, due_at: datetime, house: House | None) -> None:
        """Let an incident wait for an analyzer, when it opens and again when it ends.

        One that waits already keeps its place. One that a model has judged waits once more if it ended and changed
        notably since; else it waits no longer. `house` takes the place of what the house knew before, unless null.
        """
        await self._async_write(judgements.await_judgement, incident_id, due_at, house)

    async def async_resume_judgements(self, due_at: datetime) -> None:
        """At start: let those wait again whose end was lost in a crash."""
        await self._async_write(judgements.resume_judgements, due_at)

    async def async_claim_judgement(
        self,
        now: datetime,
        *,
        seen_since: datetime = _EVER,
        without_incidents: Collection[int] = (),
        without_cameras: Collection[str] = (),
        for_trial: bool = False,
    ) -> Judgement | None:
        """Return the most urgent incident that is due and not too old; null when none is.

        For a trial of a server that failed, it is the one that failed least; of several, the most urgent that was never
        tried, or was tried the longest ago: one that the server always fails at must not take every trial.

        It goes on waiting until `async_assess` stores a model's verdict: whatever happens until then, it is not lost.
        """
        return await self._async_write(
            judgements.claim_judgement,
            now,
            seen_since,
            without_incidents,
            without_cameras,
            for_trial=for_trial,
        )

    async def async_next_judgement_at(
        self,
        *,
        seen_since: datetime = _EVER,
        without_incidents: Collection[int] = (),
        without_cameras: Collection[str] = (),
    ) -> datetime | None:
        """Say when the next incident is due for an analyzer, or was; null when none waits that is not too old."""
        return await self._async_read(judgements.next_judgement_at, seen_since, without_incidents, without_cameras)

    async def async_old_judgements(
        self, now: datetime, before: datetime, *, without_incidents: Collection[int] = (), limit: int = 20
    ) -> list[Judgement]:
        """List what is due for an analyzer though nothing of the incident was seen since `before`, the oldest first."""
        return await self._async_read(judgements.old_judgements, now, before, without_incidents, limit)

    async def async_postpone_judgement(
        self, incident_id: int, due_at: datetime, *, tries: int, problem: str | None
    ) -> None:
        """Let an incident wait until later, if it still waits."""
        await self._async_write(judgements.postpone_judgement, incident_id, due_at, tries, problem)

    async def async_hasten_judgements(self, due_at: datetime, *, after: datetime) -> None:
        """Let the incidents be due at `due_at` that wait until later than `after`: the clock was set back."""
        await self._async_write(judgements.hasten_judgements, due_at, after)

    async def async_drop_judgement(self, incident_id: int) -> None:
        """Let an incident wait no longer."""
        await self._async_write(judgements.drop_judgement, incident_id)

    async def async_backlog(self) -> Backlog:
        """Count what waits for an analyzer."""
        return await self._async_read(judgements.backlog)

    async def async_assessed_since(self, moment: datetime) -> list[datetime]:
        """List when models gave an assessment since then, the oldest first."""
        return await self._async_read(queries.assessed_since, moment)

    async def _async_write[**P, T](
        self, query: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._async_run(self._writer, partial(self._write, query, *args, **kwargs))

    async def _async_read[**P, T](
        self, query: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._async_run(self._reader, partial(self._read, query, *args, **kwargs))

    async def _async_run[T](self, executor: ThreadPoolExecutor | None, work: Callable[[], T]) -> T:
        if executor is None:
            raise StoreError(StoreProblem.UNREACHABLE, "the store is closed")
        return await asyncio.get_running_loop().run_in_executor(executor, self._guard, work)

    # --- below here: in one of the threads ----------------------------------------------------------------------------

    def _guard[T](self, work: Callable[[], T]) -> T:
        """Run something; the one place where errors of the database become ours."""
        try:
            return work()
        except StatementError as err:
            if is_about_a_value(err):
                raise ValueError(f"the database cannot keep it: {err.orig}") from err
            raise self._failure(err) from err
        except OverflowError as err:
            raise ValueError(f"the database cannot keep it: {err}") from err
        except (SQLAlchemyError, OSError, ImportError) as err:
            raise self._failure(err) from err

    def _failure(self, err: Exception) -> StoreError:
        if self._engine is not None:
            self._engine.dispose()  # the next call gets a fresh connection
        return store_error(err, self._url)

    def _open(self) -> None:
        self._url = url = _parse(self._address)
        self._files.create()
        _create_folder_of(url)
        fresh = _migrate(url, self._busy_timeout)
        self._engine = open_engine(url, busy_timeout=self._busy_timeout)
        if fresh:
            self._files.set_aside()
        self._files.remove_leftovers()
        for picture_ids in self._files.ids():
            for orphan in self._read(queries.orphans, picture_ids):
                self._files.remove(orphan)

    def _close(self, *readers: ThreadPoolExecutor) -> None:
        for reader in readers:
            reader.shutdown()
        engine, self._engine = self._engine, None
        if engine is None:
            return
        if engine.dialect.name == "sqlite":
            # While another program reads or writes it cannot be done; then that program's own close does it.
            with suppress(SQLAlchemyError):
                checkpoint(engine)
        engine.dispose()

    def _write[**P, T](self, query: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with Session(self._engine) as session, session.begin():
            return query(session, *args, **kwargs)

    def _read[**P, T](self, query: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closing:
            raise StoreError(StoreProblem.UNREACHABLE, "the store is closed")
        assert self._engine is not None
        with Session(for_reading(self._engine)) as session:
            return query(session, *args, **kwargs)

    def _add_picture(self, picture: Picture, jpeg: bytes) -> tuple[Picture, Incident]:
        def write(picture_id: int) -> None:
            self._files.write(picture_id, jpeg)

        stored, incident, replaced = self._write(queries.add_picture, picture, write, self._kept)
        for picture_id in replaced:
            self._files.remove(picture_id)
        return stored, incident

    def _read_picture(self, picture_id: int) -> bytes | None:
        found = self._read(queries.picture, picture_id)
        return None if found is None else self._files.read(picture_id, found[0].size)


def _parse(address: str) -> URL:
    """Understand an address; what is wrong with it is not repeated, for it may hold a password."""
    try:
        url = make_url(address)
        url.get_dialect()
    except (SQLAlchemyError, ValueError, ImportError) as err:
        raise StoreError(StoreProblem.UNREACHABLE, f"the address is not understood: {type(err).__name__}") from None
    return url


def _create_folder_of(url: URL) -> None:
    if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith(("file:", ":memory:")):
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)


def _migrate(url: URL, busy_timeout: float) -> bool:
    engine = open_engine(url, busy_timeout=busy_timeout, foreign_keys=False)
    try:
        return migrate(engine)
    finally:
        engine.dispose()
