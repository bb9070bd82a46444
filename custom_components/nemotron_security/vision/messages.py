"""What Home Assistant's process and the worker say to each other.

Every message is a frozen dataclass. Times are Unix seconds (UTC) of the machine's clock; boxes are pixels of the frame
that the message names. `wire.py` turns a message into bytes and back; a field named `data` travels as raw bytes.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

# COCO names by what they are to a house.
PERSONS = frozenset({"person"})
VEHICLES = frozenset({"bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"})
ANIMALS = frozenset({"bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"})

MAX_WORKERS = 4
"""How many workers run at the same time, at most."""


class Box(NamedTuple):
    """A bounding box in pixels of its frame; right and bottom are exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.bottom - self.top

    @property
    def area(self) -> float:
        """Area in square pixels, 0 for an inverted box."""
        return max(0.0, self.width) * max(0.0, self.height)

    def in_shares(self, width: int, height: int) -> Box:
        """Return it in shares of a frame's width and height in pixels, so that another resolution is the same place."""
        return Box(self.left / width, self.top / height, self.right / width, self.bottom / height)


def iou(one: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union, 0..1."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    shared = max(0.0, width) * max(0.0, height)
    return shared / union if (union := one.area + other.area - shared) > 0 else 0.0


class Point(NamedTuple):
    """A place in a frame in shares of its width and height: 0, 0 is the left upper corner, 1, 1 the right lower one."""

    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A part of a camera's picture that has a name. An object is where it stands: at the middle of its lower edge."""

    name: str
    """Unique among the zones and entry lines of its camera."""
    points: tuple[Point, ...]
    """Its corners, three or more; the last one is joined to the first."""
    labels: tuple[str, ...] = ()
    """COCO's names of what it is for; empty for all that the camera watches for."""
    dwell: float = 0.0
    """Seconds that an object must have been inside before it counts as in the zone."""
    inertia: int = 3
    """Looks in which it must be seen inside before it counts, and outside before it no longer does."""


class Direction(StrEnum):
    """Which way an entry line is crossed, for somebody who looks along it from its start to its end in the picture."""

    BOTH = "both"
    TO_RIGHT = "to_right"
    TO_LEFT = "to_left"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryLine:
    """A line that tells who comes across it, as through a gate."""

    name: str
    start: Point
    end: Point
    direction: Direction = Direction.BOTH
    labels: tuple[str, ...] = ()
    """As a zone's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A part of a camera's picture in which something is ignored."""

    points: tuple[Point, ...]
    """As a zone's."""
    motion: bool = True
    """What moves there is no motion: a tree, a flag, the clock that the camera draws."""
    objects: bool = False
    """What stands there is no object."""
    labels: tuple[str, ...] = ()
    """Of these only, if there are any."""


class SourceKind(StrEnum):
    """Where a camera's frames come from."""

    STREAM = "stream"
    """Any URL that libav opens: RTSP, HTTP (MPEG-TS, MJPEG, HLS), RTMP."""
    FILE = "file"
    """A video file on this machine, played at its own pace."""
    STILLS = "stills"
    """JPEG pictures that the parent pushes with `PushStill`."""


class CameraStatus(StrEnum):
    """Whether a camera is seen. Part of the websocket contract."""

    UNKNOWN = "unknown"
    """Nothing was seen yet."""
    ONLINE = "online"
    OFFLINE = "offline"
    """The source cannot be reached or went silent."""
    ERROR = "error"
    """The source answers but cannot be used, or the worker is down."""


class Problem(StrEnum):
    """Why a camera or the detector does not work. Each value is a translation key that names what to do."""

    SOURCE_UNREACHABLE = "source_unreachable"
    SOURCE_UNAUTHORIZED = "source_unauthorized"
    SOURCE_NOT_FOUND = "source_not_found"
    SOURCE_STALLED = "source_stalled"
    SOURCE_CORRUPT = "source_corrupt"
    SOURCE_NO_VIDEO = "source_no_video"
    SOURCE_ENDED = "source_ended"
    FILE_MISSING = "file_missing"
    MODEL_MISSING = "model_missing"
    MODEL_CORRUPT = "model_corrupt"
    MODEL_SHAPE = "model_shape"
    MODEL_UNSAFE = "model_unsafe"
    """The file holds more than weights: loading it would run a program."""
    DETECTOR_UNREACHABLE = "detector_unreachable"
    DETECTOR_UNAUTHORIZED = "detector_unauthorized"
    DETECTOR_NOT_READY = "detector_not_ready"
    DETECTOR_NO_MODEL = "detector_no_model"
    DETECTOR_BAD_ANSWER = "detector_bad_answer"
    DETECTOR_NOT_INSTALLED = "detector_not_installed"
    """There is no such plug-in, or not what it needs."""
    DETECTOR_BROKEN = "detector_broken"
    """It does not do what a detector has to."""
    DETECTOR_NO_DEVICE = "detector_no_device"
    """The GPU that it shall run on is not there or cannot do it."""
    DETECTOR_CRASHED = "detector_crashed"
    """Its process died while it was tried."""
    DETECTOR_TIMEOUT = "detector_timeout"
    """It was not done in time, when it was tried or at its work."""
    WORKER_DOWN = "worker_down"
    CAMERA_UNAVAILABLE = "camera_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A camera's source. `location` may hold credentials: it is never logged, and hidden from `repr`."""

    kind: SourceKind
    location: str = field(default="", repr=False)
    """URL or path; empty for stills."""
    loop: bool = True
    """Files only: begin again at the end. A file played once ends with `SOURCE_ENDED`."""
    realtime: bool = True
    """Files only: play at the file's own pace (False: as fast as it is read, times are the file's own)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraConfig:
    """How one camera is watched."""

    camera_id: str
    source: Source
    fps: float = 5.0
    """Frames a second that are looked at; the source may bring more."""
    detect: bool = True
    """False: frames are decoded for the live picture, nothing is detected."""
    labels: tuple[str, ...] = ("person",)
    """COCO's names of what is tracked; all else is dropped."""
    confidence: float = 0.7
    """A track counts once the median of its last (up to 10) scores reaches this."""
    zones: tuple[Zone, ...] = ()
    lines: tuple[EntryLine, ...] = ()
    masks: tuple[Mask, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """Which model looks at the frames of every camera of this worker."""

    plugin: str = "ncnn"
    """`ncnn`, `ultralytics`, `triton`, `deepstack`, or the name of a plug-in that another package brings."""
    model: str = ""
    """For ncnn a folder with `model.ncnn.param`, `model.ncnn.bin` and `metadata.yaml` (Ultralytics' export), for
    ultralytics a file (`.pt`, `.onnx`, `.engine`); for others the model's name at the server, empty for the one that a
    DeepStack-like server has anyway."""
    threads: int = 0
    """Of the processor, for a detector that runs on it; 0: as many as are measured to be fastest."""
    device: str = ""
    """`cpu`, or one GPU: `vulkan:1` for ncnn, `cuda:1` for ultralytics; empty: a GPU if one is there that helps."""
    half: bool = False
    """Ultralytics on a GPU: infer in half precision."""
    tensorrt: bool = False
    """Ultralytics on an NVIDIA GPU: let TensorRT make an engine of a `.pt` once, and use that."""
    labels: tuple[str, ...] = ()
    """Names of the model's classes, in its order, in place of its own; empty: its own."""
    minimum_score: float = 0.5
    """Detections below it never start a track (ByteTrack's low-score stage may still use them)."""
    urls: tuple[str, ...] = field(default=(), repr=False)
    """Addresses of the servers, the preferred one first; may hold user names and passwords."""
    token: str = field(default="", repr=False)
    """What the servers want to see, if anything: a bearer token, or a DeepStack-like server's API key."""


# --- parent to worker ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDetector:
    """Load this detector; replaces the present one. Answered by `DetectorState`."""

    config: DetectorConfig
    wait: float = 0.0
    """Seconds to wait first, for one that brought an earlier worker down: cameras are watched meanwhile, and it counts
    as working only once it has worked for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCamera:
    """Watch this camera; one with the same id is replaced (its source reopened only if the source changed)."""

    config: CameraConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StopCamera:
    """Stop watching this camera and forget its tracks."""

    camera_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLooking:
    """Let the detector look at this camera's whole picture again and again, also while nothing moves in it."""

    camera_id: str
    seconds: float
    """From now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushStill:
    """A JPEG still of a camera with `SourceKind.STILLS`."""

    camera_id: str
    captured_at: float
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetSnapshot:
    """Ask for the newest frame as JPEG. Answered by `Snapshot` with the same `request_id`."""

    request_id: int
    camera_id: str
    after: int = 0
    """Wait (at most 5 s) for a frame with a larger `frame_id`."""
    boxes: bool = True
    """Draw the live tracks into it."""
    max_width: int = 0
    """Scale down to this width; 0 keeps the frame's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """Stop everything and exit with 0."""


# --- worker to parent ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The first message: the worker's imports are done and it listens."""

    pid: int
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraReport:
    """One camera's figures since the last heartbeat."""

    camera_id: str
    fps: float
    """Frames a second that were looked at."""
    inference_fps: float
    """Frames a second that went through the detector."""
    last_frame_at: float | None
    width: int = 0
    height: int = 0
    skipped: int = 0
    """Frames in which something moved and that the detector never looked at: it was busy, failed, or not there yet."""
    reconnects: int = 0
    """How often its source showed frames again after it had failed."""
    stalls: int = 0
    """How often its source was open but showed nothing for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Sent once a second. A worker that misses several is hung and is killed."""

    at: float
    cameras: tuple[CameraReport, ...]
    inference_ms_p50: float | None
    """Median time of one run of the detector in the last minute; null when none ran."""
    inference_ms_p95: float | None
    rss: int
    """Resident memory of the worker in bytes; of all workers, where the pool joins their heartbeats."""
    runs_ms: tuple[float, ...] = ()
    """Times of the detector's runs since the last heartbeat: what percentiles over several workers are made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """The worker's process ended though nobody asked it to; the executor says so, as the worker cannot."""

    failed_starts: int
    """How often in a row it ended before it was ready."""
    camera_ids: tuple[str, ...] | None = None
    """The cameras that it watched; null: all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A log record of the worker, already free of secrets."""

    level: int
    logger: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorState:
    """The detector was loaded (`problem` is null) or could not be, or does not work any more.

    After it has failed at its work, it counts as loaded only once it has worked for a while.
    """

    problem: Problem | None
    detail: str = ""
    labels: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    """Input size in pixels."""
    camera_ids: tuple[str, ...] | None = None
    """The cameras that are not looked at any more for this problem; null: all of them. The pool says so."""
    device: str = ""
    """What it runs on: `cpu`, a GPU's name, `cpu (...)` with why no GPU is used, or a server's host and port."""
    threads: int = 0
    """Of the processor; 0 where it does not run on this machine's or chooses by itself."""
    fatal: bool = False
    """Nothing works in this process any more: the worker ends, and another one is started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraState:
    """A camera's status changed."""

    camera_id: str
    status: CameraStatus
    at: float
    problem: Problem | None = None
    detail: str = ""
    """libav's words for people who look for the cause; free of secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionState:
    """Motion began or (after a short hold) ended."""

    camera_id: str
    active: bool
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackState:
    """One object as the tracker sees it in this frame."""

    track_id: int
    """Unique over all cameras, workers and restarts: ids count up from the worker's start time in milliseconds, in
    steps of `MAX_WORKERS`, so that workers that run at the same time never meet."""
    label: str
    confidence: float
    """Median of the last (up to 10) scores, 0..1."""
    score: float
    """The score in this frame, 0..1; the last one while the object is briefly hidden."""
    box: Box
    first_seen_at: float
    last_seen_at: float
    confirmed: bool
    """The median reached the camera's threshold at least once; never taken back."""
    moved: bool
    """It moved (or appeared in motion) since it was first seen: a car parked before we looked never did."""
    stationary: bool
    """It has not moved for a while now."""
    zones: tuple[str, ...] = ()
    """Names of the zones that it is in now, and of the entry lines that it has just crossed."""
    visited: tuple[str, ...] = ()
    """All that were ever in `zones`, the first one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTracks:
    """The live tracks after one frame went through the detector. `ended` ones are gone for good."""

    camera_id: str
    frame_id: int
    captured_at: float
    width: int
    height: int
    tracks: tuple[TrackState, ...]
    ended: tuple[TrackState, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackPicture:
    """The best view of a confirmed track so far: the whole frame as JPEG, without drawings."""

    camera_id: str
    track_id: int
    captured_at: float
    box: Box
    score: float
    width: int
    height: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Answer to `GetSnapshot`; empty `data` when there is no frame."""

    request_id: int
    camera_id: str
    frame_id: int
    captured_at: float | None
    data: bytes = field(default=b"", repr=False)


type Command = SetDetector | StartCamera | StopCamera | StartLooking | PushStill | GetSnapshot | Shutdown
type Report = (
    Ready
    | WorkerLost
    | Heartbeat
    | LogLine
    | DetectorState
    | CameraState
    | MotionState
    | FrameTracks
    | TrackPicture
    | Snapshot
)
type Message = Command | Report
