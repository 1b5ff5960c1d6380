"""Runs a program with its MLX calls routed: ``python -m autotune.cli.program TABLE PROGRAM ...`` (``autotune run``).

TABLE is a path or empty. Routing is on before anything of the program is imported, so that what it takes out of
``mlx.core`` is what ``enable`` put there.
"""

from __future__ import annotations

import os
import runpy
import sys

from ..errors import AutotuneError
from ..routing import switch


def main() -> None:
    table, program, *arguments = sys.argv[1:]
    if table:
        try:
            switch.use_table(table)
        except AutotuneError as error:
            print(f"autotune: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
    switch.enable(rules=False)
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        sys.path[0] = os.path.dirname(os.path.abspath(program))
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
