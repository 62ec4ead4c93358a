"""`lipsound2 export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lipsound2.cli.options import Force, Output
from lipsound2.runtime.terminal import result


class Format(StrEnum):
    """What a pack can be exported to."""

    onnx = "onnx"


class Quantize(StrEnum):
    """Types of weights that are smaller than float32."""

    int8 = "int8"


def export(
    pack: Annotated[str, typer.Argument(help="Name of a pack, or the folder of a pack or a run.", show_default=False)],
    output: Output = Path("exported"),
    form: Annotated[Format, typer.Option("--format", help="Format of the graphs.")] = Format.onnx,
    quantize: Annotated[Quantize | None, typer.Option(help="Type of the weights.", show_default="float32")] = None,
    force: Force = False,
) -> None:
    """Export a pack to run elsewhere than in Python: graphs, and their settings as JSON."""
    from lipsound2.export.write import export as run
    from lipsound2.packs import find_pack

    found = find_pack(pack)
    run(found, output, quantize == Quantize.int8, force)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    told = {"output": str(output), "format": str(form), "quantized": quantize and str(quantize), "bytes": size}
    result(f"{output}: {size / 1e6:.1f} MB", told)
