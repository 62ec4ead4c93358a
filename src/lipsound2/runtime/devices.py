"""The name of a device -> one that torch has here."""

from lipsound2.errors import ConfigError


def find_device(name: str | None = None) -> str:
    """Return the device of that name; for None and `auto` the first GPU that torch can use, else the CPU.

    Raises:
        ConfigError: There is no such device here.
    """
    here = list_devices()
    if name is None or name == "auto":
        return "cuda" if "cuda" in here else "cpu"
    wanted = name.lower()
    if wanted not in here and wanted.removesuffix(":0") not in ("cpu", *here):
        raise ConfigError(f"no device {name!r} here", f"there is: auto, {', '.join(here)}")
    return wanted


def list_devices() -> list[str]:
    """Return the names of all devices that torch can use here, the CPU first."""
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def count_devices(name: str) -> int | None:
    """Return how many processes a device can be shared out to; None if that is not bounded."""
    import torch

    return torch.cuda.device_count() if name == "cuda" else None if name == "cpu" else 1
