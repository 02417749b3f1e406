"""Settings of malloc: keep memory that is freed in one step and needed again in the next."""
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGE = 1 << 30  # bytes


def keep_memory() -> bool:
    """
    Let the C library keep the memory that a training step frees.

    Otherwise each step on a CPU waits until the system has cleared new memory for feature maps.

    :return: whether the C library has this setting (glibc has).
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, 'mallopt'):
        return False
    return all([library.mallopt(M_MMAP_THRESHOLD, LARGE),
                library.mallopt(M_TRIM_THRESHOLD, 2 * LARGE - 1)])
