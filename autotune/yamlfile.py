"""YAML files that people edit, read so that a slip is found where it was made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import UsageError, unknown


def load(path: Path) -> dict[str, Any]:
    """The mapping at the top of the file. Raises :class:`UsageError` with the line where it does not parse."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})", "check the path") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text", "give a YAML file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{path}{line}: no valid YAML ({_first_line(error)})", "mend the file") from None
    except ValueError as error:
        raise UsageError(f"{path}: no valid YAML ({error})", "mend the file") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: the file must hold a mapping", "see docs/workloads.md")
    return content


def check_keys(where: str, content: Any, known: Iterable[str], needed: Iterable[str] = ()) -> None:
    """Raises :class:`UsageError` for a key that is not known, with the nearest one, and for one that is missing."""
    if not isinstance(content, dict):
        raise UsageError(f"{where} must be a mapping", f"with keys {', '.join(known)}")
    for key in content:
        if key not in known:
            raise unknown(f"key in {where}:", str(key), known)
    for key in needed:
        if key not in content:
            raise UsageError(f"{where} lacks {key!r}", f"keys: {', '.join(known)}")


def _first_line(error: Exception) -> str:
    return str(getattr(error, "problem", "") or error).splitlines()[0]
