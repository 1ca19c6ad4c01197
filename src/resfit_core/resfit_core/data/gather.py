"""Copying rows that lie far apart in memory, eight at a time, as C++ compiled on first use.

Frames lie apart by chance, so each row begins with cache misses that nothing hides, and what is
written evicts what the nets need. This reads eight rows in turn, which keeps eight streams of
misses under way, and writes past the caches. Where it is not asked for, numpy does the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import mmap
from collections.abc import Callable

import numpy as np

ALIGN = 64
"""Bytes of a cache line; rows begin on one."""

SOURCE = r"""
#include <cstring>
#ifdef __SSE2__
#include <immintrin.h>
static inline void line(char* to, const char* from) {
#ifdef __AVX512F__
  _mm512_stream_si512((__m512i*)to, _mm512_loadu_si512(from));
#else
  for (int i = 0; i < 64; i += 16)
    _mm_stream_si128((__m128i*)(to + i), _mm_loadu_si128((const __m128i*)(from + i)));
#endif
}
static inline void done() { _mm_sfence(); }
#else
static inline void line(char* to, const char* from) { std::memcpy(to, from, 64); }
static inline void done() {}
#endif

template <long S>
static void rows(const char* ring, const long long* index, long size, char* out) {
  for (long at = 0; at < size; at += 128)
    for (long j = 0; j < S; ++j)
      for (long i = at; i < at + 128 && i < size; i += 64)
        line(out + j * size + i, ring + index[j] * size + i);
}

extern "C" void gather(const char* ring, const long long* index, long count, long size,
                       char* out) {
  long k = 0;
  for (; k + 8 <= count; k += 8) rows<8>(ring, index + k, size, out + k * size);
  for (; k < count; ++k) rows<1>(ring, index + k, size, out + k * size);
  done();
}
"""

Gather = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
"""Called with rows, index and out: out[k] = rows[index[k]]."""


def aligned(*shape: int) -> np.ndarray:
    """Return bytes of this shape, of any value, whose first one begins a cache line."""
    size = math.prod(shape)
    flat = np.empty(size + ALIGN, np.uint8)
    begin = -flat.ctypes.data % ALIGN
    return flat[begin : begin + size].reshape(shape)


def reserved(rows: int, size: int) -> np.ndarray:
    """Return zeros that take memory only as they are written, in huge pages if there are any.

    A row of two cameras of 84 x 84 spans eleven pages of 4 KiB, each with an address to look up.
    """
    region = mmap.mmap(-1, max(1, rows * size))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without them
            region.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(region, np.uint8, rows * size).reshape(rows, size)


def numpys(rows: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
    """Copy rows by numpy."""
    # Without a mode numpy gathers into memory of its own first and copies that.
    np.take(rows, index, axis=0, out=out, mode="clip")


@functools.cache
def native() -> Gather:
    """Return the compiled way. Rows as `reserved` makes them, out as `aligned`, or a part of it.

    Raises:
        NativeError: no compiler, or it fails.
    """
    from resfit_core.nets.native import build

    function = build(SOURCE).gather
    function.restype = None
    pointer, number = ctypes.c_void_p, ctypes.c_long
    function.argtypes = [pointer, pointer, number, number, pointer]

    def gather(rows: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
        count, size = out.shape
        fit = rows.shape[1] == size and size % ALIGN == 0 and out.ctypes.data % ALIGN == 0
        if not (fit and rows.flags.c_contiguous and out.flags.c_contiguous):
            raise ValueError(
                f"rows of shape {rows.shape} do not go to {out.shape}: both must be whole, "
                f"their size a multiple of {ALIGN}, out on a multiple of {ALIGN}; use `aligned`"
            )
        index = np.ascontiguousarray(index, np.int64)
        function(rows.ctypes.data, index.ctypes.data, count, size, out.ctypes.data)

    return gather
