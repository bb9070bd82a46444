"""This machine's GPUs, by NVIDIA's management library.

A call into a driver in trouble may never return. So all calls are made on one thread of our own: while it hangs there
are no readings, and no other thread is started beside it.
"""

import asyncio
from collections.abc import Callable
import contextlib
from ctypes import CDLL
from queue import SimpleQueue
import threading
from typing import TYPE_CHECKING, Any, override

from . import GpuError, GpuProblem, GpuReport, GpuSource

if TYPE_CHECKING:
    from .nvml_library import Library

SONAME = "libnvidia-ml.so.1"
PATIENCE = 10.0
"""Seconds until a call is taken for hung. The first after the driver was idle takes some."""


# --- the thread -------------------------------------------------------------------------------------------------------


class _Caller(threading.Thread):
    """Makes blocking calls one after another, for one event loop. A daemon: it never holds up the end of a program."""

    def __init__(self) -> None:
        super().__init__(name="nvml", daemon=True)
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self.free = True
        """Whether the last call has come back and another may be made."""

    def call[T](self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run the function on the thread. Of a future that was cancelled meanwhile, the result is dropped."""
        self.free = False
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((function, future))
        return future

    def end(self) -> None:
        """Let the thread end when the last call has come back."""
        self.free = False
        self._calls.put(None)

    @override
    def run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            result, error = None, None
            try:
                result = function()
            except Exception as err:  # noqa: BLE001 - it is raised again where it was asked for
                error = err
            with contextlib.suppress(RuntimeError):  # the loop was closed while the call hung
                future.get_loop().call_soon_threadsafe(self._hand_over, future, result, error)

    def _hand_over(self, future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
        self.free = self._calls.empty()
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


class NvmlSource(GpuSource):
    """All GPUs of this machine and their MIG instances."""

    _caller: _Caller | None = None
    """Of all sources: the library is one for the whole process."""

    def __init__(self, *, patience: float = PATIENCE) -> None:
        """Wait that many seconds for an answer."""
        self.id = "nvml"
        self.name = "NVML"
        self._patience = patience
        self._library: Library | None = None

    @override
    async def async_read(self) -> GpuReport:
        caller = NvmlSource._caller
        if caller is None or not caller.is_alive():
            caller = NvmlSource._caller = _Caller()
            caller.start()
        if not caller.free:
            raise GpuError(GpuProblem.HUNG, "an earlier call has not come back")
        try:
            async with asyncio.timeout(self._patience):
                return await caller.call(self._read)
        except TimeoutError as err:
            raise GpuError(GpuProblem.HUNG, f"no answer in {self._patience:g} s") from err

    @override
    async def async_stop(self) -> None:
        """Close the library, so that an idle GPU may sleep. A thread that hangs is left to end by itself."""
        caller = NvmlSource._caller
        if caller is None or not caller.is_alive():
            return
        hangs = not caller.free
        caller.call(self._close)
        caller.end()
        if not hangs:
            await asyncio.to_thread(caller.join, self._patience)

    # --- on the thread ----------------------------------------------------------------------------------------------

    def _read(self) -> GpuReport:
        if self._library is None:
            self._library = _library()
        return self._library.read()

    def _close(self) -> None:
        if self._library is not None:
            self._library.close()


def _library() -> Library:
    """Return the library; only a machine that has one pays for the binding.

    Raises:
        GpuError: there is none.
    """
    try:
        CDLL(SONAME)
    except OSError as err:
        raise GpuError(GpuProblem.NO_DRIVER, str(err)) from err
    from .nvml_library import Library  # noqa: PLC0415

    return Library()
