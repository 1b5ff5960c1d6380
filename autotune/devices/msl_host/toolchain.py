"""From translated text to shared objects: which compiler, with which flags, kept where.

The compiler is a clang of version 19 or later, older ones cannot compute with bfloat: one on the PATH, else the one
inside the package ``ziglang``, which needs no root and is called as plain clang (``zig clang``) and plain lld
(``zig ld.lld``), since its own way of linking begins with building a C library (23 s). Objects are linked against
nothing, so that neither gcc nor a C library's development files are needed: what they leave undefined is in the process
already (the C library, libm, the runtime).

Everything made is kept under the user's cache by the hash of all that went into it, and put there by renaming, so that
processes may share it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from ...errors import AutotuneError
from ...paths import user_cache
from . import instrument
from .errors import HostError

OLDEST_CLANG = 19
NEWEST_CLANG = 30
"""Suffixes of ``clang++-N`` that are looked for."""

_HERE = Path(__file__).resolve().parent
_SOURCE, _LISTING, _OBJECT = "kernel.clcpp", "kernel.ll", "kernel.o"
INCLUDE = _HERE / "include"
RUNTIME = _HERE / "runtime"

_LANGUAGE = (
    *("-x", "clcpp", "-cl-std=CLC++2021"),
    "-cl-no-stdinc",  # or clang declares OpenCL's own functions
    "-cl-single-precision-constant",  # 1.0 is a float in Metal
    *("-Xclang", "-cl-ext=-cl_khr_fp64,-__opencl_c_fp64"),  # and there is no double
)
_NUMBERS = (
    "-ffp-contract=off",
    # Every operation on half and bfloat rounds, instead of whole expressions being computed in float.
    *("-Xclang", "-ffloat16-excess-precision=none"),
    *("-Xclang", "-fbfloat16-excess-precision=none"),
)
_CODE = (
    *("-O1", "-fPIC", "-fvisibility=default", "-fno-strict-aliasing", "-gline-tables-only"),
    "-fdebug-compilation-dir=/kernel",  # objects do not depend on where they are made
)
_WARNINGS = (
    "-Wimplicit-float-conversion",  # of which those to bfloat are errors in Metal: see diagnostics.py
    *("-Wno-unknown-attributes", "-Wno-ignored-attributes", "-Wno-unknown-pragmas", "-Wno-invalid-constexpr"),
    *("-Wno-c++20-extensions", "-Wno-pass-failed", "-Wno-parentheses", "-Wno-undefined-inline"),
    *("-Wno-undefined-internal", "-Wno-unused-command-line-argument"),
)
_CHECK = (
    *("-Xclang", "-fsanitize=thread"),
    *("-mllvm", "-tsan-instrument-func-entry-exit=0", "-mllvm", "-tsan-instrument-atomics=0"),
    # The pass leaves wide accesses alone without a word. Here there should be few; instrument.py sees to the rest.
    *("-fno-vectorize", "-fno-slp-vectorize", "-mprefer-vector-width=128"),
)
# Half to float and back in hardware, one rounding each; the CPUs of the last ten years have it.
_PROCESSORS = {"x86_64": ("-march=x86-64-v3",), "aarch64": ("-march=armv8.2-a+fp16",)}
_RUNTIME_FLAGS = (
    *("-x", "c++", "-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing"),
    *("-fno-exceptions", "-fno-rtti", "-nostdinc++", "-fcf-protection=none"),  # none of a C++ library is linked
)


class NoCompilerError(AutotuneError):
    """This machine has no compiler for the host."""


@dataclass(frozen=True)
class Compiler:
    """The commands that compile a kernel, link objects, and compile the runtime's C++; ``version`` is clang's own
    description, part of every cache key."""

    clang: tuple[str, ...]
    linker: tuple[str, ...]
    cxx: tuple[str, ...]
    version: str


def compiler() -> list[str]:
    """The command that compiles C++ for this machine. Raises :class:`NoCompilerError`."""
    return list(_compiler().cxx)


def cache() -> Path:
    """Where compiled kernels are kept. Not created here."""
    return user_cache() / "msl_host"


def flags(check: bool = False) -> tuple[str, ...]:
    """Flags of a kernel's compilation, without includes. Raises :class:`NoCompilerError` on an unknown processor."""
    if platform.machine() not in _PROCESSORS:
        known = " and ".join(_PROCESSORS)
        raise NoCompilerError(f"the MSL host does not know the processor {platform.machine()!r}", f"it runs on {known}")
    return (*_LANGUAGE, *_PROCESSORS[platform.machine()], *_NUMBERS, *_CODE, *_WARNINGS, *(_CHECK if check else ()))


@dataclass(frozen=True)
class Unit:
    """A translated kernel: ``prelude``, the text that many kernels begin with, the ``text`` itself, and the folders
    that they ``include`` from besides the host's own, whose names have to change when their contents do."""

    prelude: str
    text: str
    include: tuple[Path, ...] = ()


def kernel_library(unit: Unit, check: bool) -> Path:
    """The shared object of a kernel, from the cache or compiled now (0.1 to 0.4 s).

    Raises :class:`HostError` of kind ``compile`` with clang's messages as its detail. Warnings are kept beside the
    object: see :func:`warnings`.
    """
    command = _command(unit, check)
    made = cache() / (_digest([_headers(), _compiler().version, *command, unit.prelude, unit.text]) + ".so")
    if not made.exists():
        with _scratch() as folder:
            Path(folder, _SOURCE).write_text(unit.text, "utf-8")
            said = _compile([*command, *_precompiled(unit, check)], Path(folder), check)
            Path(folder, "kernel.txt").write_text(said, "utf-8")
            linked = _link([Path(folder, _OBJECT)])
            os.replace(Path(folder, "kernel.txt"), made.with_suffix(".txt"))
            os.replace(linked, made)
    return made


def warnings(library: Path) -> str:
    """What clang said when it compiled ``library``."""
    return library.with_suffix(".txt").read_text("utf-8")


def runtime_library() -> Path:
    """``libmslrt``, which kernels call for all that clang cannot do; compiled once (2 s).

    Raises :class:`AutotuneError` where it does not compile.
    """
    files = sorted(RUNTIME.glob("*.cpp"))
    contents = [path.name + path.read_text("utf-8") for path in sorted([*files, *RUNTIME.glob("*.h")])]
    found = _compiler()
    made = cache() / f"libmslrt-{_digest([found.version, *_RUNTIME_FLAGS, *contents])}.so"
    if not made.exists():
        with _scratch() as folder:
            objects = [Path(folder, path.stem + ".o") for path in files]
            for path, target in zip(files, objects):
                _run([*found.cxx, *_RUNTIME_FLAGS, "-c", str(path), "-o", str(target)])
            os.replace(_link(objects), made)
    return made


def syntax_tree(unit: Unit) -> str:
    """Clang's dump of the syntax tree of a kernel, less its prelude. Raises :class:`HostError` of kind ``compile``."""
    with _scratch() as folder:
        Path(folder, _SOURCE).write_text(unit.text, "utf-8")
        command = [*_command(unit, False), *_precompiled(unit, False), "-w", "-fsyntax-only", "-Xclang", "-ast-dump"]
        return _run([*command, _SOURCE], Path(folder)).stdout


def tree(name: str, files: dict[str, str]) -> Path:
    """A folder in the cache that holds ``files`` (relative path to text), named by their contents."""
    made = cache() / f"{name}-{_digest([part for item in sorted(files.items()) for part in item])}"
    if not made.exists():
        with _scratch() as folder:
            staged = Path(folder, name)
            for path, text in files.items():
                target = staged / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, "utf-8")
            try:
                os.replace(staged, made)
            except OSError:  # another process was first
                if not made.exists():
                    raise
    return made


def _command(unit: Unit, check: bool) -> list[str]:
    return [*_compiler().clang, *flags(check), *(f"-I{folder}" for folder in (INCLUDE, *unit.include))]


def _precompiled(unit: Unit, check: bool) -> list[str]:
    """Flags that take the prelude from a precompiled header: it is most of a small kernel's compile time (0.1 s of
    0.2), and of its syntax tree."""
    command = _command(unit, check)
    made = cache() / (_digest([_headers(), _compiler().version, *command, unit.prelude]) + ".pch")
    if not made.exists():
        source = tree("prelude", {"prelude.h": unit.prelude}) / "prelude.h"  # which the compiled form refers to
        with _scratch() as folder:
            target = Path(folder, "prelude.pch")
            # Not the headers' times of change but their contents decide, and those are in the name.
            precompile = ["-w", "-Xclang", "-emit-pch", "-Xclang", "-fno-pch-timestamp"]
            _run([*command, *precompile, "-c", str(source), "-o", str(target)])
            os.replace(target, made)
    return ["-Xclang", "-include-pch", "-Xclang", str(made)]


def _compile(command: Sequence[str], folder: Path, check: bool) -> str:
    """Compiles the source in ``folder`` and returns the warnings. Names are relative: the object has no paths in it."""
    if not check:
        return _run([*command, "-c", _SOURCE, "-o", _OBJECT], folder).stderr
    said = _run([*command, "-S", "-emit-llvm", _SOURCE, "-o", _LISTING], folder).stderr
    listing = folder / _LISTING
    listing.write_text(instrument.complete(listing.read_text("utf-8")), "utf-8")
    generate = ["-x", "ir", "-O1", "-Xclang", "-disable-llvm-passes", "-fPIC", "-Wno-override-module"]
    _run([*_compiler().clang, *generate, "-c", _LISTING, "-o", _OBJECT], folder)
    return said


def _link(objects: Iterable[Path]) -> Path:
    paths = [str(path) for path in objects]
    target = Path(paths[0]).with_suffix(".so")
    _run([*_compiler().linker, *paths, "-o", str(target)])
    return target


def _run(command: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise HostError("compile", done.stderr.strip() or f"{command[0]} ended with status {done.returncode}")
    return done


def _scratch() -> tempfile.TemporaryDirectory[str]:
    # In the cache itself: a rename is atomic within one file system only.
    cache().mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=cache(), prefix="making-")


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


@once
def _headers() -> str:
    """Digest of the headers that every kernel includes."""
    files = [*sorted(path for path in INCLUDE.rglob("*") if path.is_file()), RUNTIME / "abi.h"]
    return _digest([f"{path.relative_to(_HERE)}\0{path.read_text('utf-8')}" for path in files])


@once
def _compiler() -> Compiler:
    if platform.system() != "Linux":
        raise NoCompilerError("the MSL host runs on Linux only", "run it there, or in a container")
    found = _clang_on_path() or _clang_in_ziglang()
    if found is None:
        raise NoCompilerError(
            f"no clang++ of version {OLDEST_CLANG} or later on the PATH, and no ziglang",
            "from a checkout: python -m pip install '.[cpu,host]'",
        )
    return found


def _clang_on_path() -> Compiler | None:
    for name in ("clang++", *(f"clang++-{version}" for version in range(NEWEST_CLANG, OLDEST_CLANG - 1, -1))):
        path = shutil.which(name)
        version = _version([path]) if path else ""
        # Apple numbers its own clang differently, and it has no OpenCL.
        number = re.search(r"clang version (\d+)", version)
        if path and number and "Apple" not in version and int(number[1]) >= OLDEST_CLANG:
            return Compiler((path,), (path, "-shared", "-nostdlib"), (path,), version)
    return None


def _clang_in_ziglang() -> Compiler | None:
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        return None
    zig = str(Path(spec.origin).parent / "zig")
    # `zig clang` is clang as it is, which knows no C library; `zig c++` brings the headers that the runtime needs.
    clang = (zig, "clang", f"--target={platform.machine()}-unknown-linux-gnu")
    return Compiler(clang, (zig, "ld.lld", "-shared"), (zig, "c++", "-fno-sanitize=all"), _version([zig, "clang"]))


def _version(command: list[str]) -> str:
    try:
        return subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return ""
