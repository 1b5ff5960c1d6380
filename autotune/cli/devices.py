"""``autotune devices``: what this machine is, and which tables it would use."""

from __future__ import annotations

from typing import Any

import typer

from .output import JSON, emit, next_step


def register(app: typer.Typer) -> None:
    @app.command()
    def devices(json: bool = JSON) -> None:
        """Show this machine's chips and MLX build, and which tables are used, and why or why not."""
        found = [_device(kind) for kind in _kinds()]
        if json:
            emit({"devices": found})
            return
        for each in found:
            _print(each)
        next_step("autotune sweep" if not any(t["used"] for each in found for t in each["tables"]) else "autotune show")


def _kinds() -> list[str]:
    from ..machine import has

    return [kind for kind in ("gpu", "cpu") if has(kind)]


def _device(kind: str) -> dict[str, Any]:
    from .. import chips
    from ..devices import preflight
    from ..machine import default_kind, local
    from ..routing.router import Router

    machine, chip = local(kind), chips.of_machine(kind)
    bandwidth = chip.memory_bandwidth_gbs.get(machine.cores) if chip else None
    return {
        "kind": kind,
        "default": kind == default_kind(),
        "chip": chips.here(kind),
        "known": chip is not None,
        "device_name": machine.device_name,
        "architecture": machine.architecture,
        "backend": machine.backend,
        "cores": machine.cores,
        "nax": machine.nax,
        "nax_reason": _nax_reason(machine, chip),
        "bandwidth_gbs": bandwidth,
        "last_level_cache_mb": round(chips.cache_bytes(kind) / (1 << 20), 1),
        "os": machine.os,
        "mlx": machine.mlx,
        "unfit": preflight.objections(machine),
        "tables": [vars(verdict) for verdict in Router(kind).verdicts()],
    }


def _nax_reason(machine: Any, chip: Any) -> str:
    if machine.nax:
        return "usable"
    if machine.backend != "metal" or chip is None or chip.nax_from_os is None:
        return "this device has none"
    return f"not usable: they need macOS {chip.nax_from_os}, this is {machine.os}"


def _print(each: dict[str, Any]) -> None:
    cores = {"metal": "GPU cores", "cuda": "multiprocessors", "cpu": "logical processors"}[each["backend"]]
    star = " (MLX's default)" if each["default"] else ""
    unknown = "" if each["known"] else ", not in configs/chips.yaml"
    print(f"{each['kind']}: {each['chip']}{star}{unknown}")
    print(f"  device       {each['device_name']}, {each['architecture']}, {each['cores'] or 'unknown'} {cores}")
    memory = f", {each['bandwidth_gbs']:g} GB/s" if each["bandwidth_gbs"] else ""
    print(f"  memory       last-level cache {each['last_level_cache_mb']:g} MB{memory}")
    print(f"  MLX          {each['mlx']}, {each['backend']} backend, on {each['os']}")
    if each["backend"] == "metal":
        print(f"  accelerators {each['nax_reason']}")
    for objection in each["unfit"]:
        print(f"  unfit        {objection}")
    if not each["tables"]:
        print("  tables       none found: every call goes to stock")
    for table in each["tables"]:
        print(f"  table        {'used' if table['used'] else 'not used'}: {table['path']} ({table['reason']})")
