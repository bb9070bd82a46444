"""Rows own files: none without the other."""

from dataclasses import replace
import logging
from pathlib import Path

import pytest

from custom_components.nemotron_security.store import Store, StoreError, StoreProblem
from custom_components.nemotron_security.store.pictures import PictureFiles

from .samples import JPEG, RULES, TRACK, VERDICT, add_picture, begin


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


async def test_a_picture_is_a_row_and_a_file_named_by_its_id(store: Store, pictures: Path) -> None:
    incident = await begin(store)
    picture = await add_picture(store, incident, score=0.75)
    assert await store.async_pictures(incident.id) == [picture]
    assert (picture.incident_id, picture.track_id, picture.score) == (incident.id, TRACK.track_id, 0.75)
    assert (picture.box, picture.width, picture.height, picture.size) == (TRACK.box, 1280, 720, len(JPEG))
    assert await store.async_read_picture(picture.id) == JPEG
    assert files_below(pictures) == {f"0/{picture.id}.jpg"}


async def test_a_better_view_of_a_track_replaces_the_earlier_one(store: Store, pictures: Path) -> None:
    incident = await begin(store)
    first = await add_picture(store, incident)
    second = await add_picture(store, incident, jpeg=b"better")
    assert second.id > first.id
    assert await store.async_pictures(incident.id) == [second]
    assert await store.async_read_picture(first.id) is None
    assert await store.async_read_picture(second.id) == b"better"
    assert files_below(pictures) == {f"0/{second.id}.jpg"}


async def test_what_the_model_was_shown_whose_verdict_counts_stays(store: Store, pictures: Path) -> None:
    incident = await begin(store)
    first = await add_picture(store, incident)
    with store.keeping([first.id]), store.keeping([first.id]):
        second = await add_picture(store, incident)
        await store.async_assess(incident.id, replace(VERDICT, shown=(None, first.id)))
    await store.async_assess(incident.id, RULES)
    third = await add_picture(store, incident)
    left = {first.id, third.id}
    assert {picture.id for picture in await store.async_pictures(incident.id)} == left, "it is asked about no more"
    assert files_below(pictures) == {f"0/{picture_id}.jpg" for picture_id in left}
    assert await store.async_read_picture(second.id) is None
    await store.async_assess(incident.id, replace(VERDICT, shown=(third.id,)))
    fourth = await add_picture(store, incident)
    assert {picture.id for picture in await store.async_pictures(incident.id)} == {third.id, fourth.id}


async def test_the_incident_shows_its_best_picture(store: Store) -> None:
    incident = await begin(store)

    async def shown() -> int | None:
        found = await store.async_incident(incident.id)
        assert found is not None
        assert found.picture_id == (await store.async_incidents())[0].picture_id
        return found.picture_id

    assert await shown() is None
    good = await add_picture(store, incident, track_id=1, score=0.8)
    await add_picture(store, incident, track_id=2, score=0.6)
    assert await shown() == good.id
    best = await add_picture(store, incident, track_id=2, score=0.9)
    assert await shown() == best.id
    assert [picture.id for picture in await store.async_pictures(incident.id)] == [best.id, good.id]


async def test_a_picture_of_one_incident_replaces_none_of_another(store: Store) -> None:
    first, second = await begin(store), await begin(store)
    kept = await add_picture(store, first)
    await add_picture(store, second)
    assert await store.async_pictures(first.id) == [kept]


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x")]
)
async def test_a_missing_or_incomplete_file_reads_as_none(store: Store, pictures: Path, damage: object) -> None:
    picture = await add_picture(store, await begin(store))
    other = await add_picture(store, await begin(store))
    damage(pictures / "0" / f"{picture.id}.jpg")  # type: ignore[operator]
    assert await store.async_read_picture(picture.id) is None
    assert store.read_pictures([other, picture]) == [JPEG, None]


async def test_an_id_names_a_picture_only_while_it_has_a_row(store: Store, pictures: Path) -> None:
    await add_picture(store, await begin(store))
    (pictures / "0" / "77.jpg").write_bytes(b"of nobody")
    assert await store.async_read_picture(77) is None
    assert await store.async_read_picture(-1) is None


async def test_what_a_crash_left_is_removed_at_open_and_nothing_else(store: Store, pictures: Path) -> None:
    picture = await add_picture(store, await begin(store))
    await store.async_close()
    (pictures / "3").mkdir()
    for orphan in ("0/500.jpg", "3/3001.jpg", "0/501.jpg.tmp"):
        (pictures / orphan).write_bytes(b"orphan")
    others = {"note.txt", "0/note.txt", "3/4.jpg", "0/1.jpeg", "0/01.jpg"}
    for other in others:
        (pictures / other).write_bytes(b"not ours")

    await store.async_open()

    assert files_below(pictures) == {f"0/{picture.id}.jpg", *others}


async def test_the_pictures_of_a_lost_database_are_set_aside(
    store: Store, database: Path, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await add_picture(store, await begin(store), jpeg=b"evidence")
    await store.async_close()
    database.unlink()

    with caplog.at_level(logging.WARNING):
        await store.async_open()

    assert files_below(pictures) == set()
    (aside,) = [path for path in pictures.parent.iterdir() if path.name.startswith("pictures-")]
    assert (aside / "0" / "1.jpg").read_bytes() == b"evidence"
    assert str(aside) in caplog.text
    picture = await add_picture(store, await begin(store))
    assert await store.async_read_picture(picture.id) == JPEG


async def test_no_row_is_kept_when_the_file_finds_no_space(store: Store, pictures: Path) -> None:
    incident = await begin(store)
    first = await add_picture(store, incident)
    for number in range(first.id + 1, first.id + 4):
        (pictures / "0" / f"{number}.jpg.tmp").symlink_to("/dev/full")

    with pytest.raises(StoreError) as caught:
        await add_picture(store, incident, jpeg=b"better")

    assert caught.value.problem is StoreProblem.FULL
    assert await store.async_pictures(incident.id) == [first]
    assert await store.async_read_picture(first.id) == JPEG
    second = await add_picture(store, incident, jpeg=b"better")  # the failed try removed what was in its way
    assert await store.async_read_picture(second.id) == b"better"


def test_a_folder_holds_a_thousand(tmp_path: Path) -> None:
    files = PictureFiles(tmp_path / "pictures")
    files.create()
    for number in (999, 1000, 1234567):
        files.write(number, b"x")
    assert files_below(tmp_path / "pictures") == {"0/999.jpg", "1/1000.jpg", "1234/1234567.jpg"}
    assert set().union(*files.ids()) == {999, 1000, 1234567}
