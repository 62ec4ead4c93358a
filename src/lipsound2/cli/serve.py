"""`lipsound2 serve`."""

from typing import Annotated

import typer

from lipsound2.cli.options import Device, PackName, Threads, use_threads
from lipsound2.errors import MissingExtraError


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="LIPSOUND2_TOKEN",
            help="Secret that visitors need, 16 or more letters and digits.",
            show_default="none at a local address, else a new one",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Another name by which browsers reach it; repeatable.")
    ] = None,
    pack: PackName = "grid-s1",
    max_mb: Annotated[int, typer.Option(min=1, help="Megabytes of a video.")] = 500,
    max_seconds: Annotated[int, typer.Option(min=1, help="Seconds of a video.")] = 600,
    queue: Annotated[int, typer.Option(min=1, help="Videos that may wait.")] = 20,
    keep: Annotated[int, typer.Option(min=1, help="Minutes after which videos and results are deleted.")] = 60,
    live: Annotated[int, typer.Option(min=0, help="Visitors who may speak live at once; 0 switches it off.")] = 1,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Serve a page on which videos are dropped or recorded, and speech is heard, read and fetched."""
    use_threads(threads)
    try:
        from lipsound2.web.serving import Address, serve
    except ModuleNotFoundError as error:
        if str(error.name).startswith("lipsound2"):
            raise
        raise MissingExtraError(f"the page needs the package {error.name}", 'pip install "lipsound2[web]"') from error
    from lipsound2.runtime.devices import find_device
    from lipsound2.web.limits import Limits
    from lipsound2.web.models import Models

    limits = Limits(
        upload=max_mb * 1_000_000,
        total=max(4_000_000_000, 2 * max_mb * 1_000_000),
        seconds=float(max_seconds),
        waiting=queue,
        keep=60.0 * keep,
        live=live,
    )
    address = Address(host, port, tuple(allow_host or ()), token)
    serve(Models(pack, find_device(device)), address, limits)
