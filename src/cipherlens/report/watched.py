"""Runs a Python module as a program and writes down every file that the process opened.

Executed as a script, before anything else is imported:

    python -P watched.py RECORD.json MODULE ARGUMENT ...

The record holds `opened`, real paths in the order of their first opening, from the audit events of PEP 578, which
Python raises for its own imports too; `modules`, the names of all modules that were loaded; and `peak_bytes`, the
process's largest resident size (VmHWM), null where the system does not tell.
"""

import json
import os
import runpy
import sys


def peak_bytes() -> int | None:
    """VmHWM of this process in bytes. It starts anew with each program; `getrusage` would remember the parent's."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            found = [line.split()[1] for line in status if line.startswith("VmHWM:")]
    except OSError:
        return None
    return int(found[0]) * 1024 if found else None


def watch(record: str, module: str, arguments: list[str]) -> None:
    """Run the module as `__main__` with these arguments; the record is written whichever way it ends."""
    opened: dict[str, None] = {}
    listening = True

    def hook(event: str, details: tuple[object, ...]) -> None:
        if listening and event == "open" and isinstance(details[0], str | bytes):
            opened[os.path.realpath(os.fsdecode(details[0]))] = None

    sys.addaudithook(hook)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        listening = False
        found = {"opened": list(opened), "modules": sorted(sys.modules), "peak_bytes": peak_bytes()}
        with open(record, "w", encoding="utf-8") as file:
            json.dump(found, file)


if __name__ == "__main__":
    watch(sys.argv[1], sys.argv[2], sys.argv[3:])
