"""This process, its device and this machine -> bytes of memory, as far as the system tells them."""

import os
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/statm")
_LIMIT = Path("/sys/fs/cgroup/memory.max")


def resident_memory() -> int:
    """Return the memory that this process holds; 0 where the system does not tell."""
    if not _STATUS.exists():
        return peak_memory()
    return int(_STATUS.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_memory() -> int:
    """Return the most memory that this process has held; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def proportional_memory(process: int) -> int:
    """Return the memory of a process, what it shares with others by its share; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def machine_memory() -> int:
    """Return the memory of this machine, or of its container; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _LIMIT.read_text(encoding="ascii").strip() if _LIMIT.exists() else "max"
    return min(whole, int(limit)) if limit.isdecimal() else whole


def device_memory(device: torch.device) -> int:
    """Return the memory of a GPU of CUDA; 0 of other devices, which use that of the machine."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def device_peak(device: torch.device) -> int:
    """Return the most memory that this process has reserved on a GPU of CUDA; 0 of other devices."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
