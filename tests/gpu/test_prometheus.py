"""Metrics as DCGM's exporter, Triton and vLLM write them, from a real server; and servers that answer anything else."""

import asyncio
from collections.abc import AsyncIterator
import logging
from pathlib import Path

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
import pytest

from custom_components.nemotron_security.gpu import GpuError, GpuProblem, GpuReading, ThrottleReason, prometheus
from custom_components.nemotron_security.gpu.prometheus import PrometheusSource, read_metrics

ANSWERS = Path(__file__).with_name("answers")
MIB = 1 << 20
SECRET = "hunter2"

pytestmark = pytest.mark.usefixtures("socket_enabled")


class Exporter:
    """A server that answers what the test says."""

    def __init__(self) -> None:
        self.text = ""
        self.status = 200
        self.hang = asyncio.Event()
        self.hang.set()
        self.authorization: str | None = None

    async def answer(self, request: web.Request) -> web.Response:
        self.authorization = request.headers.get("Authorization")
        await self.hang.wait()
        return web.Response(text=self.text, status=self.status, content_type="text/plain")


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


@pytest.fixture
async def url(exporter: Exporter) -> AsyncIterator[str]:
    """The address of the exporter, with a password in it."""
    app = web.Application()
    app.router.add_get("/metrics", exporter.answer)
    async with TestServer(app) as server:
        yield f"http://admin:{SECRET}@{server.host}:{server.port}/metrics?token={SECRET}"
        exporter.hang.set()


@pytest.fixture
async def source(url: str) -> AsyncIterator[PrometheusSource]:
    async with ClientSession() as session:
        yield PrometheusSource(session, url)


async def read(source: PrometheusSource, exporter: Exporter, name: str) -> dict[str, GpuReading]:
    exporter.text = (ANSWERS / f"{name}.txt").read_text()
    report = await source.async_read()
    assert report.lost == ()
    return {reading.gpu_id: reading for reading in report.readings}


async def test_dcgm(source: PrometheusSource, exporter: Exporter) -> None:
    readings = await read(source, exporter, "dcgm")
    busy, idle = "GPU-a2b7e2f3-3d0a-4a5e-8f6d-3c1f2a9b7e10", "GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
    assert readings == {
        busy: GpuReading(
            gpu_id=busy,
            name="NVIDIA A10",
            driver_version="550.90.07",
            utilization=87.0,
            memory_used=20480 * MIB,
            memory_total=(20480 + 2048 + 512) * MIB,
            temperature=61.0,
            power=121.334,
            energy=3_600_000.0,
            graphics_clock=1695.0,
            memory_clock=6251.0,
            encoder_utilization=0.0,
            decoder_utilization=14.0,
            pcie_sent=5_120_345.0,
            ecc_corrected=3,
            ecc_uncorrected=None,  # DCGM's number for none
            throttle=ThrottleReason.POWER_CAP,
        ),
        idle: GpuReading(
            gpu_id=idle,
            name="NVIDIA A10",
            driver_version="550.90.07",
            utilization=0.0,
            memory_used=0,
            memory_total=22000 * MIB,
            temperature=33.0,
            power=16.871,
            graphics_clock=210.0,
        ),
    }
    assert exporter.authorization is not None


async def test_dcgm_with_mig(source: PrometheusSource, exporter: Exporter) -> None:
    readings = await read(source, exporter, "dcgm_mig")
    uuid = "GPU-c0ffee00-3d0a-4a5e-8f6d-3c1f2a9b7e10"
    name = "NVIDIA A100-SXM4-40GB"
    assert readings == {
        uuid: GpuReading(gpu_id=uuid, name=name, temperature=41.0),
        f"{uuid}/7": GpuReading(
            gpu_id=f"{uuid}/7",
            parent_id=uuid,
            name=f"{name} MIG 1g.5gb",
            utilization=25.0,
            memory_used=864 * MIB,
            memory_total=4864 * MIB,
        ),
        f"{uuid}/3": GpuReading(
            gpu_id=f"{uuid}/3",
            parent_id=uuid,
            name=f"{name} MIG 2g.10gb",
            memory_used=728 * MIB,
            memory_total=9728 * MIB,
        ),
    }


async def test_triton(source: PrometheusSource, exporter: Exporter) -> None:
    readings = await read(source, exporter, "triton")
    uuid = "GPU-b7c1d2e3-0000-4a5e-8f6d-3c1f2a9b7e10"
    assert readings == {
        uuid: GpuReading(
            gpu_id=uuid,
            utilization=42.0,
            memory_used=2 << 30,
            memory_total=15 << 30,
            power=38.225,
            power_limit=70.0,
            energy=8402.114,
        )
    }


async def test_vllm(source: PrometheusSource, exporter: Exporter) -> None:
    readings = await read(source, exporter, "vllm")
    (reading,) = readings.values()
    assert reading == GpuReading(
        gpu_id=reading.gpu_id,
        name="vLLM nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL",
        cache_utilization=18.75,
        requests_running=3,
        requests_waiting=4,
    )
    assert reading.gpu_id.startswith("vllm-")
    assert (await read(source, exporter, "vllm")).keys() == readings.keys()


def test_two_servers_of_one_model_are_two() -> None:
    text = (ANSWERS / "vllm.txt").read_text()
    assert read_metrics(text, "one")[0].gpu_id != read_metrics(text, "other")[0].gpu_id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} 40 1795435200000', 40.0),
        ('DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-1",} 40', 40.0),
        ('DCGM_FI_DEV_GPU_TEMP{Hostname="a\\"}b",UUID="GPU-1"} 4e1', 40.0),
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} NaN', None),
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} +Inf', None),
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} 2147483632', None),
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} 140737488355328.000000', None),
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} 9223372036854775792', None),
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} -1e308', None),
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} 1e16', None),
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} forty', None),
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"', None),
        ('DCGM_FI_DEV_GPU_TEMP{gpu="0"} 40', None),
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1",pod="' + "p" * 4000 + '"} 40', 40.0),
        ('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1",pod="' + "p" * 5000 + '"} 40', None),
    ],
)
def test_lines(text: str, expected: float | None) -> None:
    readings = read_metrics(text, "")
    assert [reading.temperature for reading in readings] == ([] if expected is None else [expected])


@pytest.mark.parametrize("uuid", ["", "01JG8M1WZQ3V", "nvidia0", "GPU-1/2", "GPU-" + "0" * 90])
def test_what_is_no_uuid(uuid: str) -> None:
    assert read_metrics(f'DCGM_FI_DEV_GPU_TEMP{{UUID="{uuid}"}} 40', "") == ()


@pytest.mark.parametrize("uuid", ["MIG-77777777-2222-3333-4444-555555555555", "MIG-GPU-77777777-2222-3333/1/0"])
def test_uuids_of_instances(uuid: str) -> None:
    (reading,) = read_metrics(f'nv_gpu_utilization{{gpu_uuid="{uuid}"}} 0.5', "")
    assert reading.gpu_id == uuid


@pytest.mark.parametrize(
    "line", ['DCGM_FI_DEV_GPU_TEMP{{UUID="GPU-{}"}} 40', 'vllm:num_requests_running{{model_name="{}"}} 1']
)
def test_a_server_of_very_many(line: str) -> None:
    text = "\n".join(line.format(number) for number in (*range(100), 0))
    assert len(read_metrics(text, "")) == prometheus.MOST_READINGS


def test_memory_that_no_gpu_has() -> None:
    text = 'DCGM_FI_DEV_FB_USED{{UUID="GPU-1"}} {}\nDCGM_FI_DEV_GPU_TEMP{{UUID="GPU-1"}} 40'
    for used in ("-1e308", "1e308", "1e10"):
        (reading,) = read_metrics(text.format(used), "")
        assert (reading.memory_used, reading.temperature) == (None, 40.0)


@pytest.mark.parametrize(
    "text", ["", "<html>hello</html>", "node_cpu_seconds_total 5\n", "nv_inference_count{} 3\n", "\0" * 100]
)
async def test_a_server_of_another_kind(source: PrometheusSource, exporter: Exporter, text: str) -> None:
    exporter.text = text
    with pytest.raises(GpuError) as raised:
        await source.async_read()
    assert raised.value.problem is GpuProblem.BAD_ANSWER


@pytest.mark.parametrize("status", [301, 401, 404, 500])
async def test_a_refusal(source: PrometheusSource, exporter: Exporter, status: int) -> None:
    exporter.status = status
    with pytest.raises(GpuError) as raised:
        await source.async_read()
    assert (raised.value.problem, raised.value.detail) == (GpuProblem.BAD_ANSWER, f"HTTP {status}")


async def test_an_answer_without_end(
    source: PrometheusSource, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "MAXIMUM_ANSWER", 1 << 20)
    exporter.text = (ANSWERS / "dcgm.txt").read_text() * 200
    with pytest.raises(GpuError) as raised:
        await source.async_read()
    assert (raised.value.problem, raised.value.detail) == (GpuProblem.BAD_ANSWER, "more than 1 MB")


async def test_a_server_that_does_not_answer_in_time(
    source: PrometheusSource, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "PATIENCE", 0.05)
    exporter.hang.clear()
    with pytest.raises(GpuError) as raised:
        await source.async_read()
    assert raised.value.problem is GpuProblem.UNREACHABLE
    exporter.hang.set()
    monkeypatch.setattr(prometheus, "PATIENCE", 10.0)
    assert await read(source, exporter, "triton")


async def test_secrets_stay_where_they_are(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with ClientSession() as session:
        source = PrometheusSource(session, f"http://admin:{SECRET}@127.0.0.1:1/{SECRET}/metrics?token={SECRET}")
        with pytest.raises(GpuError) as raised:
            await source.async_read()
    assert raised.value.problem is GpuProblem.UNREACHABLE
    assert raised.value.detail
    assert source.name == "127.0.0.1:1"
    assert SECRET not in f"{raised.value} {source.name} {caplog.text}"


async def test_an_answer_that_is_not_http_tells_no_secret() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server, ClientSession() as session:
        port = server.sockets[0].getsockname()[1]
        source = PrometheusSource(session, f"http://127.0.0.1:{port}/{SECRET}/metrics")
        with pytest.raises(GpuError) as raised:
            await source.async_read()
    assert raised.value.problem is GpuProblem.UNREACHABLE
    assert SECRET not in str(raised.value)
