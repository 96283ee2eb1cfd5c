"""`cipherlens doctor`: the machine, the kernels, and what is installed."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from cipherlens.cli.failures import EXTRAS
from cipherlens.cli.options import Json, Threads, command
from cipherlens.cli.output import Output, plural, size

EXERCISED_KERNELS = {
    "avx512": "our tests run it where the machine has it",
    "avx2": "our tests run it",
    "portable": "our tests run it",
    "neon": "our tests run it under emulation",
}
"""Kernels that the project's own tests have run, on hardware or under emulation, against the reference."""


@command
def doctor(threads: Threads = None, as_json: Json = False) -> int:
    """Say what this machine offers, which kernels were chosen, and whether they pass their self-check."""
    from cipherlens import __version__
    from cipherlens._evaluator import available_kernels, check_kernels
    from cipherlens.errors import PlanError
    from cipherlens.scheme.engine import choose_kernel, usable_cores

    output = Output(as_json)
    failed: list[str] = []
    names = list(available_kernels())
    for name in names:
        try:
            check_kernels(name)
        except RuntimeError:
            failed.append(name)
    try:
        chosen, problem = choose_kernel(), None
    except PlanError as error:
        chosen, problem = None, str(error)
    memory, used = _memory(), threads or usable_cores()
    output.facts(
        [
            ("cipherlens", f"{__version__}, Python {platform.python_version()}, {sys.platform} {platform.machine()}"),
            ("processor", f"{_processor()}, {plural(usable_cores(), 'usable core')}"),
            ("threads", f"{used}, unless --threads says otherwise"),
            *([("memory", size(memory))] if memory else []),
            *(
                (
                    f"kernel {name}",
                    ("fails its self-check" if name in failed else "passes its self-check")
                    + f"; {EXERCISED_KERNELS.get(name, 'our tests have never run it')}"
                    + ("  <- chosen" if name == chosen else ""),
                )
                for name in names
            ),
            *((module, found) for module, found in _packages().items()),
        ]
    )
    if problem is not None:
        output.note(f"cipherlens: {problem}")
    output.finish(
        {
            "command": "doctor",
            "version": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": usable_cores(),
            "threads": used,
            "memory_bytes": memory,
            "kernels": {n: {"self_check": n not in failed, "exercised": n in EXERCISED_KERNELS} for n in names},
            "chosen": chosen,
            "packages": _packages(),
        }
    )
    return 1 if failed or problem else 0


def _packages() -> dict[str, str]:
    """Versions of what Cipherlens needs and of the optional packages."""
    found = {name: _version(name, name) for name in ("numpy", "cryptography", "safetensors")}
    for module, extra in EXTRAS.items():
        missing = f"not installed; pip install 'cipherlens[{extra}]' brings it"
        distribution = {"PIL": "pillow", "sklearn": "scikit-learn"}.get(module, module)
        found[distribution] = _version(module, distribution) if find_spec(module) else missing
    return found


def _version(module: str, distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "installed" if find_spec(module) else "not installed"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    """Bytes of memory of the machine, None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
