"""``autotune check``: the routing table, readable."""
import typer
def register(app: typer.Typer) -> None:
    @app.command()
    def check(chip: str = typer.Option("", help="x")) -> None:
        """Show the table."""
