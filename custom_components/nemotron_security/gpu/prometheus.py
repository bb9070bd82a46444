"""GPUs of another machine, by the metrics that its servers export for Prometheus.

Which server it is shows in what it exports: NVIDIA's DCGM exporter and Triton tell of GPUs, vLLM of itself alone.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
import hashlib
import re
from typing import Any, NamedTuple, override
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientResponseError, ClientSession, ClientTimeout

from ..checks import stream_identity
from ..vision.redact import redact
from . import GpuError, GpuProblem, GpuReading, GpuReport, GpuSource, throttle_reason

PATIENCE = 5.0
"""Seconds for a whole answer."""
MAXIMUM_ANSWER = 4 << 20
"""Bytes. A DCGM exporter with eight GPUs answers some 100 kB."""
_CHUNK = 1 << 16
_OK = 200
_MEBIBYTE = 1 << 20


class PrometheusSource(GpuSource):
    """One metrics end-point."""

    def __init__(self, session: ClientSession, url: str) -> None:
        """Ask that URL. Its secrets reach no log."""
        self.id = hashlib.sha256(stream_identity(url).encode()).hexdigest()[:16]
        self.name = urlsplit(redact(url)).netloc.rpartition("@")[2]
        self._session = session
        self._url = url

    @override
    async def async_read(self) -> GpuReport:
        answer = await self._async_fetch()
        readings = await asyncio.to_thread(read_metrics, answer.decode(errors="replace"), self.id)
        if not readings:
            raise GpuError(GpuProblem.BAD_ANSWER, "exports no metrics of DCGM, Triton's GPUs or vLLM")
        return GpuReport(readings=readings)

    @override
    async def async_stop(self) -> None:
        """Nothing is held between two readings."""

    async def _async_fetch(self) -> bytes:
        limit = ClientTimeout(total=PATIENCE)
        answer = bytearray()
        try:
            async with self._session.get(self._url, timeout=limit, allow_redirects=False) as response:
                if response.status != _OK:
                    raise GpuError(GpuProblem.BAD_ANSWER, f"HTTP {response.status}")
                async for chunk in response.content.iter_chunked(_CHUNK):
                    answer += chunk
                    if len(answer) > MAXIMUM_ANSWER:
                        raise GpuError(GpuProblem.BAD_ANSWER, f"more than {MAXIMUM_ANSWER >> 20} MB")
        except TimeoutError as err:
            raise GpuError(GpuProblem.UNREACHABLE, f"no answer in {PATIENCE:g} s") from err
        except (ClientResponseError, ValueError) as err:
            raise GpuError(GpuProblem.UNREACHABLE, type(err).__name__) from err  # their texts hold the whole URL
        except (ClientError, OSError) as err:
            raise GpuError(GpuProblem.UNREACHABLE, redact(str(err)) or type(err).__name__) from err
        return bytes(answer)


# --- the text format --------------------------------------------------------------------------------------------------


class _Sample(NamedTuple):
    name: str
    labels: Mapping[str, str]
    value: float


LONGEST_LINE = 4096
"""Characters. A DCGM exporter that knows its pods writes some 500."""
_LINE = re.compile(r"((?:DCGM_FI_|nv_|vllm:)\w+)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*")
_LABEL = re.compile(r'(?<!\w)(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


def _samples(text: str) -> Iterator[_Sample]:
    """Yield every sample that may matter to us; what is malformed, or no figure, is left out."""
    for line in text.splitlines():
        if len(line) > LONGEST_LINE or not (match := _LINE.fullmatch(line)):
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        if _is_figure(match[1], value):
            labels = {name: _ESCAPE.sub(r"\1", label) for name, label in _LABEL.findall(match[2] or "")}
            yield _Sample(match[1], labels, value)


_BLANKS = (range(0x7FFFFFF0, 0x80000000), range(1 << 47, (1 << 47) + 16))
"""Numbers by which DCGM says that it has none; those of 64 bits are above any figure anyway."""
_MOST = 1 << 50
"""Above all that is measured: a pebibyte; in millijoules, a kilowatt for 35 years."""
_MOST_MEBIBYTES = 1 << 30


def _is_figure(name: str, value: float) -> bool:
    """Whether a metric can have that value; NaN compares as false."""
    most = _MOST_MEBIBYTES if name.startswith(_FRAME_BUFFER) else _MOST
    return 0 <= value <= most and not any(value in blanks for blanks in _BLANKS)


# --- what it means ----------------------------------------------------------------------------------------------------

# Metric -> the reading's figure, and what to multiply with.
_GPU_FIGURES = {
    "DCGM_FI_DEV_GPU_UTIL": ("utilization", 1.0),
    "DCGM_FI_DEV_GPU_TEMP": ("temperature", 1.0),
    "DCGM_FI_DEV_POWER_USAGE": ("power", 1.0),
    "DCGM_FI_DEV_POWER_MGMT_LIMIT": ("power_limit", 1.0),
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": ("power_limit", 1.0),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("energy", 1e-3),
    "DCGM_FI_DEV_SM_CLOCK": ("graphics_clock", 1.0),
    "DCGM_FI_DEV_MEM_CLOCK": ("memory_clock", 1.0),
    "DCGM_FI_DEV_FAN_SPEED": ("fan_speed", 1.0),
    "DCGM_FI_DEV_ENC_UTIL": ("encoder_utilization", 1.0),
    "DCGM_FI_DEV_DEC_UTIL": ("decoder_utilization", 1.0),
    "DCGM_FI_PROF_PCIE_TX_BYTES": ("pcie_sent", 1.0),
    "DCGM_FI_PROF_PCIE_RX_BYTES": ("pcie_received", 1.0),
    "nv_gpu_utilization": ("utilization", 100.0),
    "nv_gpu_power_usage": ("power", 1.0),
    "nv_gpu_power_limit": ("power_limit", 1.0),
    "nv_energy_consumption": ("energy", 1.0),
}
_WHOLE_FIGURES = {
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": "ecc_corrected",
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": "ecc_uncorrected",
    "DCGM_FI_DEV_PSTATE": "performance_state",
    "nv_gpu_memory_used_bytes": "memory_used",
    "nv_gpu_memory_total_bytes": "memory_total",
}
_THROTTLE = {"DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"}
_FRAME_BUFFER = "DCGM_FI_DEV_FB_"
_ENGINE_ACTIVE = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
_OF_INSTANCE = (_FRAME_BUFFER, _ENGINE_ACTIVE)
"""What DCGM tells of a MIG instance itself; all else in an instance's line is its GPU's."""
_UUIDS = ("UUID", "gpu_uuid", "uuid")
_UUID = re.compile(r"GPU-[0-9A-Za-z-]{1,60}|MIG-[0-9A-Za-z/-]{1,80}")
"""The driver's forms; older ones of a MIG instance are `MIG-GPU-.../1/0`."""
_INSTANCE = re.compile(r"[0-9]{0,3}")
MOST_READINGS = 64
"""GPUs, MIG instances and models of one server: eight GPUs of seven instances each, and themselves."""
_LONGEST_NAME = 100

_CACHE = {"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"}
_REQUESTS = {"vllm:num_requests_running": "requests_running", "vllm:num_requests_waiting": "requests_waiting"}


def read_metrics(text: str, source_id: str) -> tuple[GpuReading, ...]:
    """Return the readings in an answer; the id tells this server's models from others'. Takes milliseconds.

    Each becomes a device: what comes after the first `MOST_READINGS` is left out, as is what has no UUID of NVIDIA's.
    """
    gpus: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    about: dict[tuple[str, str], Mapping[str, str]] = {}
    models: defaultdict[str, list[_Sample]] = defaultdict(list)
    for sample in _samples(text):
        is_full = len(gpus) + len(models) >= MOST_READINGS
        if sample.name.startswith("vllm:"):
            model = sample.labels.get("model_name", "")
            if model in models or not is_full:
                models[model].append(sample)
        elif (gpu := _gpu_of(sample)) and (gpu in gpus or not is_full):
            gpus[gpu][sample.name] = sample.value
            about.setdefault(gpu, sample.labels)
    readings = [_gpu(*key, metrics, about[key]) for key, metrics in gpus.items()]
    readings += (reading for model, samples in models.items() for reading in _model(source_id, model, samples))
    return tuple(readings)


def _gpu_of(sample: _Sample) -> tuple[str, str] | None:
    """Return the UUID and the MIG instance, if any, that a sample is of."""
    uuid = next((sample.labels[name] for name in _UUIDS if sample.labels.get(name)), "")
    instance = sample.labels.get("GPU_I_ID", "") if sample.name.startswith(_OF_INSTANCE) else ""
    return (uuid, instance) if _UUID.fullmatch(uuid) and _INSTANCE.fullmatch(instance) else None


def _gpu(uuid: str, instance: str, metrics: Mapping[str, float], labels: Mapping[str, str]) -> GpuReading:
    figures: dict[str, Any] = dict(_memory(metrics))
    if _ENGINE_ACTIVE in metrics:
        figures["utilization"] = 100 * metrics[_ENGINE_ACTIVE]
    for name, value in metrics.items():
        if name in _GPU_FIGURES:
            figure, factor = _GPU_FIGURES[name]
            figures[figure] = value * factor
        elif name in _WHOLE_FIGURES:
            figures[_WHOLE_FIGURES[name]] = int(value)
        elif name in _THROTTLE:
            figures["throttle"] = throttle_reason(int(value))
    name = labels.get("modelName", "")
    if instance and (profile := labels.get("GPU_I_PROFILE")):
        name = f"{name} MIG {profile}".strip()
    return GpuReading(
        gpu_id=f"{uuid}/{instance}" if instance else uuid,
        name=name[:_LONGEST_NAME] or None,
        parent_id=uuid if instance else None,
        driver_version=labels.get("DCGM_FI_DRIVER_VERSION", "")[:_LONGEST_NAME] or None,
        **figures,
    )


def _memory(metrics: Mapping[str, float]) -> Iterator[tuple[str, int]]:
    """Yield used and total bytes; newer exporters tell of what the driver keeps, some of the total."""
    used, free, reserved, total = (metrics.get(_FRAME_BUFFER + part) for part in ("USED", "FREE", "RESERVED", "TOTAL"))
    if total is None and used is not None and free is not None:
        total = used + free + (reserved or 0)
    if used is not None:
        yield "memory_used", int(used * _MEBIBYTE)
    if total is not None:
        yield "memory_total", int(total * _MEBIBYTE)


def _model(source_id: str, model: str, samples: Iterable[_Sample]) -> Iterator[GpuReading]:
    """Yield what vLLM says of a model: of its engines together."""
    shares: list[float] = []
    requests: dict[str, Any] = {}
    for name, _, value in samples:
        if name in _CACHE:
            shares.append(100 * value)
        elif figure := _REQUESTS.get(name):
            requests[figure] = requests.get(figure, 0) + int(value)
    if shares or requests:
        yield GpuReading(
            gpu_id=f"vllm-{hashlib.sha256(f'{source_id} {model}'.encode()).hexdigest()[:16]}",
            name=f"vLLM {model}".strip()[:_LONGEST_NAME],
            cache_utilization=sum(shares) / len(shares) if shares else None,
            **requests,
        )
