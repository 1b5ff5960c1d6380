"""``python -m autotune``: the same as the command ``autotune``."""

from .cli.app import main

if __name__ == "__main__":
    main()
