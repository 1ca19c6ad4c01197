"""What the learner sets for its whole process: threads and the allocator."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def prepare(threads: int) -> None:
    """Set torch's threads, and let freed memory stay with the process.

    An update allocates and frees the same few megabytes again and again. By default glibc hands
    them back to the kernel each time and faults them in anew: measured with ten heads of width 256
    and batch 256, 900 page faults and 14 % of the critic's time. Elsewhere than on glibc only the
    threads are set.
    """
    torch.set_num_threads(threads)
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 25)  # the most that glibc accepts
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)
    mallopt(_M_TOP_PAD, 1 << 26)


def device(name: str) -> torch.device:
    """Return the device that `cpu`, `cuda` or `auto` (a GPU where there is one) names.

    Raises:
        ValueError: `cuda`, and there is none.
    """
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise ValueError("device is 'cuda', but torch finds no GPU; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and found else "cpu")


@contextmanager
def products(dtype: str, where: torch.device) -> Iterator[None]:
    """Let float32 matrix products and convolutions multiply in bfloat16 meanwhile.

    What they read and write stays float32, and they add up in float32; only the factors are
    rounded, within the kernel. A CPU without bfloat16 arithmetic goes on in float32. On a GPU it
    is autocast.

    Args:
        dtype: `float32` changes nothing, `bfloat16` does.
        where: the device that is used.
    """
    if dtype == "float32":
        yield
        return
    if where.type == "cuda":
        with torch.autocast("cuda", torch.bfloat16):
            yield
        return
    backends = (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "bf16"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def low_products() -> bool:
    """Return whether `products("bfloat16")` is in force on a CPU that has such arithmetic."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return torch.backends.mkldnn.matmul.fp32_precision == "bf16"


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    import numpy

    return {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
    }
