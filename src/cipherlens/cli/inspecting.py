"""`cipherlens inspect`: everything that a file says about itself, checked; no key is needed or used."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipherlens.cli.options import Json, Threads, command
from cipherlens.cli.output import Output, plural, size
from cipherlens.cli.remote import InsecureHttp, Remote, ServerUrl, TokenFile
from cipherlens.cli.transfers import Save, result_file

if TYPE_CHECKING:
    from cipherlens.cli.contents import Contents, Packed
    from cipherlens.scheme.parameters import Parameters


@command
def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Any file of Cipherlens; with --server its id, or a job's.", show_default=False
        ),
    ],
    server: ServerUrl = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    save: Save = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Say what a file holds, and check its parameters, hashes and every residue in it."""
    from cipherlens.cli.contents import read_contents

    output = Output(as_json)
    remote = Remote.of(server, token_file, insecure_http)
    with result_file(remote, file, None, save, output) as path, output.progress("reading") as bar:
        contents = read_contents(path)
        written = path.stat().st_size
        residues = _check_residues(contents, threads, bar.share)
    output.facts(
        [
            (str(file), f"{contents.kind.words}, {size(written)}"),
            *_parameter_lines(contents.parameters),
            *contents.lines,
            ("hashes", "header and body match their SHA-256"),
            ("residues", f"{residues:,} checked, each below its prime" if residues else "none in a file of this kind"),
        ]
    )
    if residues:
        output.say("Nothing else can be said without the secret key.")
    p = contents.parameters
    output.finish(
        {
            "command": "inspect",
            "file": str(file),
            "kind": contents.kind.value,
            "bytes": written,
            "parameters": p.to_dict(),
            "parameters_id": p.id,
            "modulus_bits": round(p.modulus_bits, 3),
            "security_margin_bits": round(p.security_margin_bits, 3),
            **contents.facts,
            "residues_checked": residues,
        }
    )


def _parameter_lines(p: Parameters) -> list[tuple[str, str]]:
    """The ring and its line of the security table."""
    from cipherlens.scheme.security import LARGEST_MODULUS_BITS, SECURITY_BITS

    n = p.ring_dimension
    return [
        ("ring", f"2^{n.bit_length() - 1} = {n:,}, {p.top_level} levels, digits of {plural(p.digit, 'prime')}"),
        (
            "primes",
            f"{len(p.primes)} of {_bits(p.primes)} bits, {len(p.special_primes)} special of {_bits(p.special_primes)}",
        ),
        (
            "security",
            f"{SECURITY_BITS} bits: N = 2^{n.bit_length() - 1} allows log2(QP) <= {LARGEST_MODULUS_BITS[n]}, "
            f"and it is {p.modulus_bits:.1f}",
        ),
        ("parameters", p.id),
    ]


def _bits(primes: tuple[int, ...]) -> str:
    lengths = sorted({p.bit_length() for p in primes})
    return str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"


def _check_residues(contents: Contents, threads: int | None, progress: Callable[[str, float], None]) -> int:
    """How many residues there are. Raises FormatError when one is not below its prime."""
    from cipherlens.scheme.engine import Engine, usable_cores
    from cipherlens.wire.packed import unpack_limbs

    if not contents.packed:
        return 0
    engine = Engine(contents.parameters)
    workers = threads or usable_cores()

    def check(piece: Packed) -> int:
        for row in piece.read():
            unpack_limbs(engine, row, piece.prime_indices)
        return piece.rows * len(piece.prime_indices) * contents.parameters.ring_dimension

    total = 0
    with ThreadPoolExecutor(workers) as pool:
        for done, count in enumerate(pool.map(check, contents.packed), 1):
            total += count
            progress("checking residues", done / len(contents.packed))
    return total
