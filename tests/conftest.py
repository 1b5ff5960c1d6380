"""Fixtures that all tests share: no user's tables, no warnings given before, tables for this machine's CPU, and kernels
that stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import table_header, table_row

from autotune import kernels
from autotune.routing import ops, products, recorder, router, switch, table

WriteTable = Callable[..., Path]


@pytest.fixture
def same_kernels() -> Iterator[None]:
    """A test leaves the kernels as it found them, and in their order: in that order sweeps enumerate what they shuffle.
    One that is taken out with ``monkeypatch.delitem`` comes back as the last."""
    before = list(kernels.KERNELS.items())
    yield
    assert list(kernels.KERNELS.items()) == before


@pytest.fixture(autouse=True)
def isolated(same_kernels: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The user's data folder, empty and this test's own, and so is the lock, which is one for all of a user's
    processes; routing in its first state before and after."""
    monkeypatch.setattr("autotune.search.lock.gettempdir", lambda: str(tmp_path))
    data = tmp_path / "data"
    monkeypatch.setenv("AUTOTUNE_DATA", str(data))
    monkeypatch.delenv("AUTOTUNE_TABLES", raising=False)
    monkeypatch.delenv("AUTOTUNE_DISABLE", raising=False)
    _reset()
    yield data
    _reset()


def _reset() -> None:
    recorder.Recorder.stop()
    switch.disable()
    products.forget()
    ops.suspended = 0
    router.ROUTERS._broken.clear()
    router.ROUTERS.use(None, False)
    router.ROUTERS.switch(True)
    router._WARNED.clear()
    ops.forget()


@pytest.fixture
def shipped_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder in the place of the project's tables, so that none of them is found on this machine."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr("autotune.paths.tuned_tables", lambda: folder)
    return folder


@pytest.fixture
def write_table(tmp_path: Path) -> WriteTable:
    """Writes a routing table for this machine's CPU and returns its path.

    ``families`` maps a family's text to rows ``(first, last, route)`` or ``(first, last, route, overrides)``. ``path``
    says where to write; other keywords override the header's fields, those of its chip included.
    """

    def write(families: Mapping[str, Sequence[tuple[Any, ...]]], path: Path | None = None, **header: Any) -> Path:
        path = path or tmp_path / "tables" / f"table-{len(list(tmp_path.glob('tables/*.json')))}.json"
        rows = {family: [table_row(*row) for row in listed] for family, listed in families.items()}
        table.save(table.Table(table_header(**header), rows), path)
        return path

    return write
