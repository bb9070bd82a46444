"""Benchmarks: `python -m benchmarks.NAME --json` prints one JSON object as its last line."""

import logging

# Home Assistant's camera component mourns a library that no benchmark uses, at length, on import.
logging.getLogger("homeassistant.components.camera.img_util").disabled = True
