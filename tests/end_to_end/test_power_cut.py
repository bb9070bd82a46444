"""A power cut: what was stored is found again, ended, and what happens next is another incident.

In a file of its own, as a file's tests run one after the other.
"""

from demo.home_assistant import MODEL, HomeAssistantProcess
from demo.stream_server import StreamServer

from .watching import next_of, rows


async def test_power_cut_in_the_middle_of_an_incident(house: HomeAssistantProcess, streams: StreamServer) -> None:
    entry = await house.add_integration([{"analyzer": "rules"}, *house.detector_answers(MODEL)])
    async with house.connect() as client:
        events = await client.subscribe({"type": "nemotron_security/events/subscribe"})
        url = streams.url("front_door")
        await house.add_camera(entry, [{"source": "stream"}, house.camera_answers("Front door", stream_url=url)])
        started = await next_of(client, events, "new_event")
        await next_of(client, events, "detection")
        house.kill()
    assert house.process is not None
    await house.process.wait()
    assert house.session is not None
    await house.session.close()

    await house.async_start()
    (last_seen_at, ended_at) = rows(
        house, "select last_seen_at, ended_at from incidents where id = ?", started["data"]["id"]
    )[0]
    assert ended_at is not None
    assert ended_at >= last_seen_at
    async with house.connect() as client:
        events = await client.subscribe({"type": "nemotron_security/events/subscribe", "replay": 20})
        replayed = [(await client.event(events))["data"]["id"]]
        assert started["data"]["id"] in replayed
        assert (await next_of(client, events, "new_event"))["data"]["id"] > started["data"]["id"]
