"""MLX's folder of compiled CUDA kernels, from which it takes a kernel by its name alone.

MLX copies machine code that a call hands over twice when the call is built, and hashes it when the call is evaluated:
of a kernel of 33 KB that is more than all the rest of scheduling it. But when MLX needs a kernel for the first time in
a process, it first looks for a file of the kernel's name and that hash in a folder (``MLX_PTX_CACHE_DIR``;
``mlx/backend/cuda/jit_module.cpp``), and takes the code from there. So a link to the code is put there, under a name
that stands for all that was compiled, and calls hand over nothing, which is quick to copy and to hash.

This is how MLX 0.32 works and nothing that it promises. It is therefore tried once in each process with a kernel of one
line, and where that does not come back right, calls hand over their code. (Who can write into that folder decides what
MLX runs, whatever is handed over; on a machine of several users the folder to name is a private one.)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import mlx.core as mx

from .. import paths

NOTHING = b""
HASH = "553e93901e462a6e"
"""``std::hash`` of no characters, in hexadecimal, of GNU's C++ library, which MLX's Linux builds use."""
OFF = "AUTOTUNE_BY_NAME"
"""0 in this variable of the environment makes calls hand over their code."""


def folder() -> Optional[Path]:
    """Where MLX looks: the folder that the environment names, else one among the system's temporary files. None where
    the environment names none, which turns MLX's look-up off."""
    named = os.environ.get("MLX_PTX_CACHE_DIR")
    if named is None:
        return Path(_temporary()) / "mlx" / _version() / "ptx"
    return Path(named) if named else None


def place(kept: Path, kernel: str, where: Path) -> str:
    """Makes MLX find, in its folder ``where``, the machine code in the file ``kept``, where it is called ``kernel``;
    returns the name to ask for.

    The file's own name has to stand for its content. Raises :class:`OSError` for what cannot be read or written.
    """
    name, kept = kept.stem, kept.resolve(strict=True)
    where.mkdir(parents=True, exist_ok=True)
    names, code = (where / (name + "_" + HASH + ending) for ending in (".txt", ".ptx"))
    line = name + "\t" + kernel + "\n"
    # MLX reads the names when it has found the code, so they come first.
    if _text(names) != line:
        paths.put_whole(names, lambda fresh: fresh.write_text(line))
    if _link(code) != kept:
        paths.put_whole(code, lambda fresh: fresh.symlink_to(kept))
    return name


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _link(path: Path) -> Path | None:
    try:
        return path.readlink()
    except OSError:
        return None


def _version() -> str:
    return str(mx.__version__)  # type: ignore[attr-defined]


def _temporary() -> str:
    """As C++'s ``temp_directory_path``."""
    return next(filter(None, map(os.environ.get, ("TMPDIR", "TMP", "TEMP", "TEMPDIR"))), "/tmp")
