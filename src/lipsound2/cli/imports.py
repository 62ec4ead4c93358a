"""`lipsound2 import`: weights of others."""

from pathlib import Path
from typing import Annotated

import typer

from lipsound2.cli.options import EPILOG, Force, Output
from lipsound2.runtime.terminal import result

app = typer.Typer(no_args_is_help=True, help="Convert published weights of other projects to safetensors.")


@app.command(epilog=EPILOG)
def jasper(
    archive: Annotated[Path, typer.Argument(help="A .nemo archive of a Jasper or QuartzNet.", show_default=False)],
    output: Output = Path("jasper"),
    force: Force = False,
) -> None:
    """Import NVIDIA's Jasper or QuartzNet for `--recognizer`. NeMo is not needed; no code in the archive is run."""
    from lipsound2.importers.nemo import import_nemo

    import_nemo(archive, output, force)
    result(str(output), {"output": str(output)})


@app.command(epilog=EPILOG)
def waveglow(
    file: Annotated[Path, typer.Argument(help="A checkpoint of NVIDIA's WaveGlow.", show_default=False)],
    output: Output = Path("waveglow"),
    force: Force = False,
) -> None:
    """Import NVIDIA's WaveGlow for `--vocoder`, a pickled module or a state dict; no code in the file is run."""
    from lipsound2.importers.waveglow import import_waveglow

    config = import_waveglow(file, output, force).config
    told = {"output": str(output), "flows": config.flows, "channels": config.channels}
    result(f"{output}: {config.flows} flows of {config.channels} channels for {config.audio}", told)
