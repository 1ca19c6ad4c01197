"""What the learner sets for its whole process: threads and the allocator."""

from __future__ import annotations

import ctypes
import platform
import sys

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


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    import numpy

    return {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
    }
