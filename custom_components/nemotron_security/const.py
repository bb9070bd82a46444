"""Constants of the integration."""

from typing import Final

DOMAIN: Final = "nemotron_security"

# Bus events
EVENT_INCIDENT: Final = "nemotron_security_event"
EVENT_DETECTION: Final = "nemotron_security_detection"
EVENT_CAMERA_STATUS: Final = "nemotron_security_camera_status"

# Config entry: data (the analyzer holds a secret) and options
CONF_ANALYZER: Final = "analyzer"
CONF_ANALYZER_URL: Final = "url"
CONF_ANALYZER_KEY: Final = "api_key"
CONF_ANALYZER_MODEL: Final = "model"
CONF_AI_TASK_ENTITY: Final = "ai_task_entity"
CONF_CAPABILITIES: Final = "capabilities"
"""What the model was seen to do when it was set up."""
ANALYZER_RULES: Final = "rules"
ANALYZER_NEMOTRON: Final = "nemotron"
ANALYZER_AI_TASK: Final = "ai_task"

CONF_DETECTOR: Final = "detector"
"""Option: which detector looks, named as in `DetectorConfig`; see `detection/options.py`. Holds secrets."""
PLUGIN_NCNN: Final = "ncnn"
PLUGIN_ULTRALYTICS: Final = "ultralytics"
PLUGIN_TRITON: Final = "triton"
PLUGIN_DEEPSTACK: Final = "deepstack"
CONF_WORKERS: Final = "workers"
"""Option: how many processes the cameras are spread over."""
DEFAULT_WORKERS: Final = 1
CONF_QUIET_TIME: Final = "quiet_time"
CONF_MAXIMUM_LENGTH: Final = "maximum_length"
CONF_ALARM_PANEL: Final = "alarm_panel"
"""Option: the alarm control panel whose state counts; without one, the only panel there is."""
CONF_CALENDARS: Final = "calendars"
"""Option: calendars that tell of visits."""
CONF_TOPICS: Final = "topics"
"""Option: what a model may be told."""
CONF_KEY_FRAMES: Final = "key_frames"
"""Option: the most pictures of an incident that a model is shown."""
CONF_FLOORS: Final = "floors"
"""Option: the facts that set a lowest score."""
DEFAULT_KEY_FRAMES: Final = 4
# Options of how often a model is asked, each named as in `AnalystLimits`
CONF_OPENING_DELAY: Final = "opening_delay"
CONF_CONCURRENCY: Final = "concurrency"
CONF_COOLDOWN: Final = "cooldown"
CONF_CALLS_PER_HOUR: Final = "calls_per_hour"
CONF_NEWS_FOR: Final = "news_for"
CONF_ANSWER_TIME: Final = "answer_time"
"""In minutes."""
CONF_GPU_INTERVAL: Final = "gpu_interval"
CONF_GPU_URLS: Final = "gpu_urls"
"""Option: metrics end-points of other machines with GPUs. Holds secrets."""
DEFAULT_QUIET_TIME: Final = 10
DEFAULT_MAXIMUM_LENGTH: Final = 300
DEFAULT_GPU_INTERVAL: Final = 5
"""Seconds."""

# Camera subentry
SUBENTRY_CAMERA: Final = "camera"
CONF_SOURCE: Final = "source"
SOURCE_ENTITY: Final = "entity"
SOURCE_STREAM: Final = "stream"
SOURCE_FILE: Final = "file"
CONF_CAMERA_ENTITY: Final = "camera_entity"
CONF_STREAM_URL: Final = "stream_url"
CONF_FILE_PATH: Final = "file_path"
CONF_LABELS: Final = "labels"
CONF_CONFIDENCE: Final = "confidence"
CONF_FPS: Final = "fps"
CONF_DETECT: Final = "detect"
CONF_ZONES: Final = "zones"
"""List of polygons with a name: `{id, name, points, labels, dwell, inertia}`, in shares of the frame."""
CONF_LINES: Final = "lines"
"""List of entry lines: `{id, name, start, end, direction, labels}`."""
CONF_MASKS: Final = "masks"
"""List of what is ignored: `{id, name, points, motion, objects, labels}`."""
CONF_OPENING_ZONES: Final = "opening_zones"
"""Ids of the zones and entry lines that can open an incident; empty for the whole picture."""
CONF_LOOK_ENTITIES: Final = "look_entities"
"""Entities that let the detector look for a while: a camera's own motion detection."""
CONF_OPEN_ENTITIES: Final = "open_entities"
"""Entities that open an incident: a doorbell."""
CONF_VIEW: Final = "view"
"""What the camera looks at."""
CONF_NOTE: Final = "note"
"""What a model shall know of the camera."""
DEFAULT_LABELS: Final = ("person", "bicycle", "car", "motorcycle", "bus", "truck", "cat", "dog")
DEFAULT_CONFIDENCE: Final = 0.7
DEFAULT_FPS: Final = 5.0
