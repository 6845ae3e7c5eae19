"""The least program that Typer can make: what `seamless --help` is compared with."""

import typer

app = typer.Typer()


@app.command()
def main() -> None:
    """Does nothing."""


app()
