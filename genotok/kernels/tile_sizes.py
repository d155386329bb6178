"""How many tiles a launch has, and how wide they are.

Triton's functions of the same names serve kernels as well, and take microseconds a call, several calls a launch.
"""


def cdiv(whole: int, part: int) -> int:
    """How many parts it takes to hold the whole; the last may be smaller."""
    return -(-whole // part)


def next_power_of_2(n: int) -> int:
    """The least power of two that is not below n >= 1."""
    return 1 << (n - 1).bit_length()
