"""The layers of the package: who imports whom, read from the source and seen in fresh interpreters."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cipherlens.scheme

SOURCE = Path(cipherlens.scheme.__file__ or "").parents[1]

# A module imports its own layer and those further up; layers on one line do not know each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("_evaluator", "_secret"),
    ("scheme",),
    ("wire",),
    ("data",),
    ("features",),
    ("layout",),
    ("learning",),
    ("networks",),
    ("planning",),
    ("owner", "server"),
    ("service", "client"),
    ("local",),
    ("report",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
SECRET_SIDE = ("owner", "_secret")


@dataclass(frozen=True)
class Import:
    """One import of a module of the package: from which file and layer, of which layer, on which line."""

    path: Path
    layer: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.path.relative_to(SOURCE)}:{self.line} ({self.layer}) imports {self.target}"


def source_files() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def layer_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imported_modules(text: str, path: Path) -> Iterator[tuple[str, int]]:
    """Dotted names that the text of a file imports, in every form: at the top, lazily, for types alone, by name."""
    package = ["cipherlens", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, node.lineno
            for alias in node.names:
                yield f"{module}.{alias.name}", node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value, node.lineno


def imports() -> list[Import]:
    found = []
    for path in source_files():
        for name, line in imported_modules(path.read_text(), path):
            parts = name.split(".")
            if parts[0] == "cipherlens" and len(parts) > 1 and parts[1] in RANK:
                found.append(Import(path, layer_of(path), parts[1], line))
    return found


def test_every_module_has_a_place_in_the_layers() -> None:
    known = set(RANK) | {"__main__"}
    assert sorted({layer_of(path) for path in source_files()} - known) == []


def test_layers_import_only_layers_above_them() -> None:
    wrong = [i for i in imports() if i.layer in RANK and i.layer != i.target and not RANK[i.target] < RANK[i.layer]]
    assert [str(i) for i in wrong] == []


def test_only_the_owner_imports_the_secret_half() -> None:
    assert [str(i) for i in imports() if i.target == "_secret" and i.layer != "owner"] == []


def test_owner_and_server_do_not_know_each_other() -> None:
    sides = {("owner", "server"), ("server", "owner")}
    assert [str(i) for i in imports() if (i.layer, i.target) in sides] == []


def test_the_service_knows_neither_the_owner_nor_the_client() -> None:
    assert [str(i) for i in imports() if i.layer == "service" and i.target in (*SECRET_SIDE, "client")] == []


@pytest.mark.parametrize(
    "line",
    [
        "import cipherlens.owner.a",
        "from cipherlens import owner",
        "from cipherlens.owner import b",
        "from ..owner import c",
        "from .. import owner as d",
        "importlib.import_module('cipherlens.owner.e')",
    ],
)
def test_the_scanner_sees_every_form_of_import(line: str) -> None:
    names = [name for name, _ in imported_modules(line, SOURCE / "server" / "nowhere.py")]
    assert any(name.split(".")[:2] == ["cipherlens", "owner"] for name in names)


# ---- fresh interpreters ---------------------------------------------------------------------------------------------

LOAD = """
import importlib, json, sys
missing = []
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cipherlens"):
            raise
        missing.append(error.name)
print(json.dumps({"loaded": sorted(m for m in sys.modules if m.split(".")[0] == "cipherlens"), "missing": missing}))
"""


def loaded_by(*modules: str) -> list[str]:
    """Modules of the package that a fresh interpreter holds after importing these; extras may be missing."""
    result = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(modules)], check=True, timeout=120, capture_output=True, text=True
    )
    loaded = json.loads(result.stdout.splitlines()[-1])["loaded"]
    assert isinstance(loaded, list)
    return [str(m) for m in loaded]


def modules_of(layer: str) -> list[str]:
    paths = [path for path in source_files() if layer_of(path) == layer and path.stem != "__main__"]
    names = [".".join(["cipherlens", *path.relative_to(SOURCE).with_suffix("").parts]) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def secret_side(loaded: list[str]) -> list[str]:
    return [m for m in loaded if m.split(".")[1:2] in [[name] for name in SECRET_SIDE]]


def test_the_server_loads_neither_the_owner_nor_the_secret_half() -> None:
    loaded = loaded_by("cipherlens.server", *modules_of("server"))
    assert "cipherlens.server" in loaded
    assert secret_side(loaded) == []


def test_the_service_loads_nothing_that_decrypts_and_no_image_libraries() -> None:
    code = "import importlib, sys\n"  # the names of database revisions are no identifiers
    code += "".join(f"importlib.import_module({name!r})\n" for name in modules_of("service"))
    code += "print(*(m for m in sys.modules if m.split('.')[0] in ('cipherlens', 'PIL', 'onnxruntime')))"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True)
    loaded = done.stdout.split()
    assert "cipherlens.service.worker" in loaded
    assert secret_side(loaded) == []
    assert [m for m in loaded if not m.startswith("cipherlens")] == []


CLOSURE = """
import importlib, importlib.abc, json, sys

refused, modules, programs = map(json.loads, sys.argv[1:])

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ModuleNotFoundError(f"no module named {name!r} on this machine", name=name)

def ours():
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] == "cipherlens"}

sys.meta_path.insert(0, Refuse())
for name in modules:
    importlib.import_module(name)
decrypting = [f"{name}.{word}" for name, module in ours().items() for word in vars(module) if "decrypt" in word.lower()]
for name in programs:
    importlib.import_module(name)
print(json.dumps([sorted(ours()), decrypting]))
"""
PROGRAMS = ("cipherlens.cli.app", "cipherlens.cli.server")
"""The commands are one program for all sides, whose names of the owner's commands load nothing of the owner's."""

RAY = "cipherlens.server.ray_cluster"
"""What needs the extra `ray`, an option of the server's."""


def closure(refused: set[str], modules: list[str]) -> tuple[list[str], list[str]]:
    """Modules of the package in a fresh interpreter that imports these, on a machine without the refused ones, and what
    in them has to do with decrypting by its name."""
    arguments = [json.dumps(sorted(refused)), json.dumps(modules), json.dumps(PROGRAMS)]
    done = subprocess.run(
        [sys.executable, "-c", CLOSURE, *arguments], check=False, timeout=300, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded, decrypting = json.loads(done.stdout)
    return loaded, decrypting


def requirements_of(*extras: str) -> set[str]:
    """Names of the distributions that the package with these extras needs, and all that those need in turn."""
    found: set[str] = set()
    waiting = [("cipherlens", frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                continue
            inner = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if inner[0] == "cipherlens":
                waiting.append(inner)
            elif inner[0] not in found:
                found.add(inner[0])
                waiting.append(inner)
    return found


def foreign_modules(allowed: set[str]) -> set[str]:
    """Top-level modules of all installed distributions but these, the package itself and what is in none."""
    return {
        module
        for module, distributions in metadata.packages_distributions().items()
        if not {canonicalize_name(d) for d in distributions} & (allowed | {"cipherlens"})
    }


@pytest.mark.parametrize("extra", ["server", "service"])
def test_a_server_needs_only_what_its_extra_installs(extra: str) -> None:
    """As on a machine that installed `cipherlens[server]` or `cipherlens[service]`, where nothing else can be imported."""
    refused = foreign_modules(requirements_of(extra))
    assert {"PIL", "onnxruntime", "httpx", "sklearn", "ray"} <= refused
    wanted = ["server"] if extra == "server" else ["server", "service"]
    modules = [name for layer in wanted for name in modules_of(layer) if name != RAY]
    loaded, decrypting = closure(refused, modules)
    assert {*modules, *PROGRAMS} <= set(loaded)
    assert secret_side(loaded) == decrypting == []


def test_a_server_with_all_options_decrypts_nothing() -> None:
    modules = [*modules_of("server"), *modules_of("service")]
    assert RAY in modules
    loaded, decrypting = closure(set(), modules)
    assert set(modules) <= set(loaded)
    assert secret_side(loaded) == decrypting == []


def test_the_scanner_sees_what_decrypts() -> None:
    assert any(name.startswith("cipherlens.owner") for name in closure(set(), ["cipherlens.owner"])[1])


def test_the_command_line_loads_the_secret_half_only_for_the_owner() -> None:
    """`train` and `classify` share a program with the owner's commands, which import what they need when they run."""
    if modules_of("cli"):
        assert secret_side(loaded_by("cipherlens.cli.app", "cipherlens.cli.server")) == []


@pytest.mark.parametrize("layer", [n for names in LAYERS[2:10] for n in names])
def test_public_layers_load_without_the_secret_half(layer: str) -> None:
    modules = modules_of(layer)
    if modules:
        assert secret_side(loaded_by(*modules)) == []


def test_the_package_itself_loads_nothing() -> None:
    assert secret_side(loaded_by("cipherlens")) == []
    assert [m for m in loaded_by("cipherlens") if m.split(".")[1:] not in ([], ["errors"])] == []


def test_the_evaluator_loads_alone() -> None:
    assert [m for m in loaded_by("cipherlens._evaluator") if m not in ("cipherlens", "cipherlens._evaluator")] == []
