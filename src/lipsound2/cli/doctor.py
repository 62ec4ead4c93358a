"""`lipsound2 doctor`."""

from dataclasses import asdict

import typer

from lipsound2.runtime.terminal import result


def doctor() -> None:
    """Check the installation: what works, and what to do about the rest."""
    from lipsound2.doctor import examine

    checks = examine()
    for check in checks:
        hint = f"\n      hint: {check.hint}" if check.hint and not check.works else ""
        result(f"{'ok ' if check.works else 'NO '} {check.name}: {check.detail}{hint}", asdict(check))
    if not all(check.works or check.optional for check in checks):
        raise typer.Exit(1)
