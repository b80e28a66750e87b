"""CUDA graphs: many launches recorded once, and then made by one call.

A launch from Python takes some microseconds of the processor, whatever it starts. Where the GPU needs less than that for
what was started, as in decoding, it waits for Python. A graph is launched whole, and its kernels follow by themselves.

What is recorded are launches with their arguments: work may change from one launch to the next only by what lies in arrays,
and all arrays must stay where they are. cuBLAS's products are out, as CuPy refuses them meanwhile: few_rows.py's are in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from . import recording
from .device import cupy, emulated


class Graph:
    """Calls work(), a function that launches kernels and returns an array: as usual the first time, when kernels are
    compiled; recording it the second time; and from then on by launching the record, without calling it.

    The work is the same each time but for the numbers in its arrays. What is returned is, from the second time on, the same
    array, which the next call overwrites. Memory that the work takes for itself comes out of a pool of the graph's own, and
    nobody else gets it as long as the graph lives; arrays from elsewhere are the caller's to keep. Raises RuntimeError where
    the work does what cannot be recorded (recording.py).
    """

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, work: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls == 1:
            return work()
        if self.calls == 2:
            self._record(work)
        self._launch()
        return self._output

    def _record(self, work: Callable[[], Any]) -> None:
        with recording.recorded() as record:
            if emulated():
                self._output, self._launch = work(), record.launch
            else:
                self._output, self._launch = self._captured(work)
        self._held = record.held

    def _captured(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """The array that it returns, and the function that launches it on the current stream."""
        cuda = cupy().cuda
        self._pool, stream = cuda.MemoryPool(), cuda.Stream(non_blocking=True)  # the default stream cannot be recorded
        with cuda.using_allocator(self._pool.malloc), stream:
            stream.begin_capture()
            try:
                output = work()
            except BaseException:
                with contextlib.suppress(Exception):  # of a record that is broken: what broke it is told
                    stream.end_capture()
                raise
            return output, stream.end_capture().launch
