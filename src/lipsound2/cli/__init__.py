"""The command `lipsound2`: each subcommand calls one typed function of the package."""

from lipsound2.cli.main import app, main

__all__ = ["app", "main"]
