"""What this machine is good at."""

import ctypes
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rankdistill.runtime.environment import is_float32

log = logging.getLogger(__name__)
# Those of oneDNN's instruction sets that have no bf16.
WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def has_bf16() -> bool:
    """Whether models compute in bf16: where it is native, on the GPU if there is one, else on the CPU.

    Nowhere if RANKDISTILL_PRECISION=float32.
    """
    if is_float32():
        return False
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return units and not is_held_back()


def is_held_back() -> bool:
    """Whether PyTorch or oneDNN must leave bf16 units alone: they emulate it then, many times slower."""
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "DEFAULT"
    return torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2") or isa.upper() in WITHOUT_BF16


def tell_threads() -> None:
    """Logs how many threads compute on how many cores, and warns where others keep these busy.

    Threads that wait for one another waste what they wait: of more than there are free cores, each step waits
    for the slowest.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    threads = torch.get_num_threads()
    how = "bf16" if has_bf16() else "float32"
    log.info("%d thread%s on %d core%s, %s", threads, "s" * (threads > 1), cores, "s" * (cores > 1), how)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > cores and threads > 1:
        log.warning(
            "this machine is busy, with a load of %.1f on %d cores: with OMP_NUM_THREADS=1 a job loses least",
            load,
            cores,
        )


def autocast(device: torch.device | str):
    """bf16 autocast on ``device`` where it is native, else full precision."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=kind in ("cpu", "cuda") and has_bf16())


@contextmanager
def kept_memory() -> Iterator[None]:
    """Memory that is freed meanwhile stays with the process, which gives it back at the end.

    Else glibc hands a step's activations back to Linux, and gets them again page by page, each to be cleared:
    an eighth of a step's time. Other systems' memory is left as it is.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    if not libc.mallopt(M_MMAP_THRESHOLD, 1 << 30):
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # an older glibc's largest
    libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield
    finally:  # to where glibc's own adaptation ends
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 64 << 20)
        libc.malloc_trim(0)
