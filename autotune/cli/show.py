"""``autotune show``: the routing table, readable."""
import typer
def register(app: typer.Typer) -> None:
    @app.command()
    def show(chip: str = typer.Option("", help="x")) -> None:
        """Show the table."""
