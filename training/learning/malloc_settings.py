"""Memory that is freed in one step and needed again in the next."""
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGE = 1 << 30  # bytes


def keep_memory() -> bool:
    """
    Let the C library keep what a training step frees instead of giving it back to the system.

    Else each step on a CPU waits for the system to clear the memory of its feature maps again.

    :return: whether the C library can be told so (glibc can).
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, 'mallopt'):
        return False
    return all([library.mallopt(M_MMAP_THRESHOLD, LARGE),
                library.mallopt(M_TRIM_THRESHOLD, 2 * LARGE - 1)])
