"""What every benchmark prints: lines for people, then one JSON object as the last line for programs."""

import argparse
from collections.abc import Callable, Mapping
import json
import platform
import time
from typing import Any

import numpy as np

type Figure = float | int | str | bool | np.number | None
type Figures = Mapping[str, Figure]


def run(measure: Callable[[], Figures], description: str | None) -> None:
    """Measure, print one line a figure, and with `--json` one JSON object as the last line.

    Args:
        measure: does the work; a figure that could not be had is None, and a `..._note` says why.
        description: for `--help`, usually the script's docstring.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    figures = {name: _rounded(value) for name, value in measure().items()}
    width = max(map(len, figures), default=0)
    for name, value in figures.items():
        print(f"{name:<{width}}  {'-' if value is None else value}")
    if arguments.json:
        print(json.dumps({**figures, "python": platform.python_version(), "machine": platform.machine()}), flush=True)


def _rounded(value: Figure) -> Any:
    plain = value.item() if isinstance(value, np.number) else value  # JSON knows no NumPy numbers
    return round(plain, 4) if isinstance(plain, float) else plain


class Stopwatch:
    """Collects the durations of many runs of the same thing, each inside `with watch:`."""

    def __init__(self) -> None:
        """Start with no runs."""
        self.times: list[float] = []
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.times.append(time.perf_counter() - self._started)

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the durations in milliseconds."""
        return float(np.percentile(self.times, percent)) * 1000
