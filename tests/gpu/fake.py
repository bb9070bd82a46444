"""NVIDIA's management library without a GPU: our own C file, loaded in the place of the real one.

The real binding runs against it. What it answers stands in a file that it reads at every call.
"""

import ctypes
from pathlib import Path
import shutil
import subprocess

import pynvml

SOURCE = Path(__file__).with_name("fake_nvml.c")
SONAME = "libnvidia-ml.so.1"

NOT_SUPPORTED = "!3"
NO_PERMISSION = "!4"
DRIVER_NOT_LOADED = "!9"
GPU_IS_LOST = "!15"
VERSION_MISMATCH = "!18"
UNKNOWN = "!999"
HANG = "hang"

GPU = "GPU-11111111-2222-3333-4444-555555555555"
OTHER_GPU = "GPU-99999999-2222-3333-4444-555555555555"
INSTANCE = "MIG-77777777-2222-3333-4444-555555555555"
GIGABYTE = 1 << 30
FULL = {
    "name": "NVIDIA T4",
    "utilization": 41,
    "memory": f"{16 * GIGABYTE} {GIGABYTE} {2 * GIGABYTE}",
    "temperature": 55,
    "power": 32_500,
    "power_limit": 70_000,
    "energy": 7_200_000,
    "clock": 1590,
    "memory_clock": 5001,
    "fan": 30,
    "encoder": 5,
    "decoder": 25,
    "pcie_tx": 1200,
    "pcie_rx": 3400,
    "ecc_corrected": 7,
    "ecc_uncorrected": 0,
    "pstate": 2,
    "reasons": 4,
    "compute": f"4242 {GIGABYTE}",
    "graphics": "4242 1 4243 1000",
}
"""A GPU that answers everything."""


def compiler() -> str | None:
    """Return the path of a C compiler, if there is one."""
    return shutil.which("gcc") or shutil.which("cc")


def build(library: Path, *options: str) -> Path:
    """Compile the library into a file."""
    command = [compiler() or "cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", f"-Wl,-soname,{SONAME}", *options]
    subprocess.run([*command, "-o", str(library), str(SOURCE)], check=True)
    return library


def load(library: Path) -> ctypes.CDLL:
    """Load it, so that the binding finds it by its soname. It stays loaded: without a script it has no driver."""
    loaded = ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    loaded.fake_nanoseconds.restype = ctypes.c_ulonglong
    return loaded


def forget() -> None:
    """Let the binding look for the library anew."""
    pynvml.nvmlLib = None
    pynvml._nvmlGetFunctionPointer_cache.clear()


def absent(name: str) -> ctypes.CDLL:
    """Stand for the loading of a library on a machine that has none."""
    raise OSError(f"{name}: cannot open shared object file: No such file or directory")


class FakeDriver:
    """What the library answers, changed as a test goes on."""

    def __init__(self, script: Path, library: ctypes.CDLL) -> None:
        self._script = script
        self._library = library
        self._lines: dict[tuple[str, str], object] = {}
        self.set("system", driver="560.35.03")
        self.set("pid", **{"4242": "/usr/bin/python3 serve.py --token=secret", "4243": "Xorg"})

    def set(self, subject: str, **values: object) -> None:
        """Answer these from now on; None takes an answer back."""
        for key, value in values.items():
            if value is None:
                self._lines.pop((subject, key), None)
            else:
                self._lines[subject, key] = value
        text = "".join(f"{subject} {key} {value}\n" for (subject, key), value in self._lines.items())
        changed = self._script.with_suffix(".new")
        changed.write_text(text)
        changed.rename(self._script)  # at once: a reader sees the old or the new

    def gpus(self, *ids: str, **values: object) -> None:
        """Have these GPUs, each with full answers but for the values given."""
        self.set("system", gpus=" ".join(ids) or None)
        for gpu_id in ids:
            self.set(gpu_id, **{**FULL, **values})

    def calls(self, key: str) -> int:
        """How often a key was asked for."""
        return int(self._library.fake_calls(key.encode()))

    @property
    def seconds(self) -> float:
        """The time that was spent in the library."""
        return float(self._library.fake_nanoseconds()) / 1e9
