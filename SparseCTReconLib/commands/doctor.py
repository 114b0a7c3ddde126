"""doctor: what this installation and this machine have, for a person."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from ..installation import examine

__all__ = ["examine", "print_report"]


def print_report(found: dict, console: Console) -> None:
    """What `examine` found, for a person."""
    table = Table("what", "found", box=None, padding=(0, 2, 0, 0))
    table.add_row("sparsectrecon", f"{found['version']} on Python {found['python']}, {found['platform']}")
    table.add_row("packages", ", ".join(f"{name} {number or 'missing'}" for name, number in found["packages"].items()))
    table.add_row("devices", ", ".join(f"{device['name']} ({device['what']})" for device in found["devices"]))
    kernels = next(one["found"] for one in found["findings"] if one["name"] == "kernels")
    table.add_row("kernels", f"{kernels}; {found['kernel_cache']['megabytes']} MB in {found['kernel_cache']['folder']}")
    table.add_row("cores, memory, disk", f"{found['cores']}, {found['free_memory_gb']} GB free, {found['free_disk_gb']} GB free")
    for name, package in found["optional"].items():
        table.add_row(f"optional: {name}", package["version"] or f"not installed; for {package['for']}: {package['install']}")
    console.print(table, highlight=False)
    for warning in found["warnings"]:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    if not found["warnings"]:
        console.print("all well", style="green")
