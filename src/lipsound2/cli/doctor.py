"""`lipsound2 doctor`."""

import typer


def doctor() -> None:
    """Tell what works here and what to do about the rest."""
    from lipsound2.doctor import examine

    checks = examine()
    for check in checks:
        print(f"{'ok ' if check.works else 'NO '} {check.name}: {check.detail}")  # noqa: T201
        if check.hint and not check.works:
            print(f"      hint: {check.hint}")  # noqa: T201
    if not all(check.works or check.optional for check in checks):
        raise typer.Exit(1)
