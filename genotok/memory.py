"""How the process asks the system for memory."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_THRESHOLD = 32 << 20  # glibc takes no more


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for the next tensor instead of returning each to the kernel.

    Every temporary tensor of some megabytes is otherwise mapped and cleared anew, which costs a training step
    on the CPU more than its arithmetic. Does nothing where the C library is another.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
