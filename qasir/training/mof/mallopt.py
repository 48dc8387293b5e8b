"""Keeps the memory of a process from growing with what passes through it."""

import ctypes

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
_LARGE = 1 << 20


def give_back_large_blocks() -> bool:
    """Have glibc return every block of 1 MiB or more to the system when it is freed, from here on; False where there is
    no glibc.

    By default glibc raises that limit to the largest block freed so far, up to 32 MiB, and keeps smaller ones in a heap
    of each thread: with Lance's many threads it comes to hundreds of mebibytes, more of them the longer a table is
    read.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _LARGE))
