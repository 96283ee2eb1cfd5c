"""The engine benchmark as tables: each peer's time and its ratio to ours, on a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from peers.common import OPERATIONS, Record, is_ours

NONE, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


def milliseconds(seconds: float) -> str:
    """Three significant digits."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def parameters(record: Record) -> str:
    """`limbs+special, dnum`."""
    return f"{record.limbs}+{record.special_limbs}, dnum {record.dnum}"


def _fastest(
    records: Sequence[Record], library: str, operation: str, ring: tuple[int, int], threads: int
) -> Record | None:
    """The quickest record of a library for (ring dimension, limbs), None where it has none."""
    found = [
        record
        for record in records
        if (record.library, record.operation, record.threads) == (library, operation, threads)
        and (record.ring_dimension, record.limbs) == ring
        and record.median_seconds is not None
    ]
    return min(found, key=lambda record: record.median_seconds or 0.0, default=None)


def _libraries(records: Sequence[Record]) -> list[str]:
    """Ours first, in the order measured; the first one is what ratios refer to."""
    names = list(dict.fromkeys(record.library for record in records))
    return sorted(names, key=lambda name: not is_ours(name))


def _rings(records: Sequence[Record]) -> list[tuple[int, int]]:
    return sorted({(record.ring_dimension, record.limbs) for record in records})


def _cell(record: Record | None, base: Record | None) -> str:
    if record is None or record.median_seconds is None:
        return NONE
    text = milliseconds(record.median_seconds)
    if base is not None and base is not record and base.median_seconds:
        ratio = record.median_seconds / base.median_seconds
        text += f" ({ratio:.1f}{TIMES})" if ratio >= 1 else f" ({ratio:.2g}{TIMES})"
    return text


def timing_rows(records: Sequence[Record], threads: int) -> Iterator[list[str]]:
    """Rows of cells: operation, ring, then each library's milliseconds with its ratio to ours."""
    libraries = _libraries([record for record in records if record.threads == threads])
    for operation in OPERATIONS:
        for ring in _rings(records):
            cells = [_fastest(records, library, operation, ring, threads) for library in libraries]
            base = cells[0] if libraries and is_ours(libraries[0]) else None
            if any(cells):
                yield [operation, _ring_name(ring), *(_cell(cell, base) for cell in cells)]


def ntt_rows(records: Sequence[Record]) -> Iterator[list[str]]:
    """Rows of cells: ring, then each library's nanoseconds a coefficient and limb on one thread."""
    libraries = _libraries(records)
    for ring in _rings(records):
        cells = [_fastest(records, library, "ntt", ring, 1) for library in libraries]
        values = [
            f"{cell.median_seconds * 1e9 / (ring[0] * ring[1]):.2f}" if cell and cell.median_seconds else NONE
            for cell in cells
        ]
        if any(cells):
            yield [_ring_name(ring), *values]


def speed_up_rows(records: Sequence[Record]) -> Iterator[list[str]]:
    """Rows of cells: operation, ring, then how many times faster two threads are, for libraries that have them.

    By medians, and in brackets by the fastest runs.
    """
    libraries = [name for name in _libraries(records) if any(r.library == name and r.threads == 2 for r in records)]
    for operation in OPERATIONS:
        for ring in _rings(records):
            cells = []
            for library in libraries:
                one = _fastest(records, library, operation, ring, 1)
                two = _fastest(records, library, operation, ring, 2)
                medians = _gain(one and one.median_seconds, two and two.median_seconds)
                least = _gain(one and one.least_seconds, two and two.least_seconds)
                cells.append(f"{medians} ({least})" if medians != NONE else NONE)
            if any(cell != NONE for cell in cells):
                yield [operation, _ring_name(ring), *cells]


def _gain(one: float | None, two: float | None) -> str:
    return f"{one / two:.2f}{TIMES}" if one and two else NONE


def parameter_rows(records: Sequence[Record]) -> Iterator[list[str]]:
    """Rows of cells: ring, then the parameters each library used there."""
    libraries = _libraries(records)
    for ring in _rings(records):
        cells = []
        for library in libraries:
            used = [r for r in records if r.library == library and (r.ring_dimension, r.limbs) == ring]
            cells.append(" / ".join(dict.fromkeys(parameters(record) for record in used)) or NONE)
        yield [_ring_name(ring), *cells]


def _ring_name(ring: tuple[int, int]) -> str:
    return f"2^{ring[0].bit_length() - 1}, {ring[1]}"


def _sections(records: Sequence[Record]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    libraries = _libraries(records)
    for threads in sorted({record.threads for record in records}):
        title = f"Milliseconds on {threads} thread{'s' if threads > 1 else ''} (ratio to ours)"
        measured = _libraries([record for record in records if record.threads == threads])
        yield title, ["operation", "N, limbs", *measured], list(timing_rows(records, threads))
    yield "NTT, nanoseconds a coefficient and limb, one thread", ["N, limbs", *libraries], list(ntt_rows(records))
    parallel = [name for name in libraries if any(r.library == name and r.threads == 2 for r in records)]
    if parallel:
        yield (
            "Two threads against one: medians (fastest runs)",
            ["operation", "N, limbs", *parallel],
            list(speed_up_rows(records)),
        )
    yield "Parameters (primes in Q + in P, digits)", ["N, limbs", *libraries], list(parameter_rows(records))


def _versions(records: Sequence[Record]) -> str:
    return ", ".join(dict.fromkeys(f"{record.library} {record.version}" for record in records))


def show(records: Sequence[Record], remarks: Sequence[str], where: str, console: Console) -> None:
    """Prints every table and remark."""
    for title, head, rows in _sections(records):
        table = Table(title=title, title_justify="left")
        for i, name in enumerate(head):
            table.add_column(name, justify="left" if i == 0 else "right", style="bold" if is_ours(name) else "")
        for i, row in enumerate(rows):
            table.add_row(*row, end_section=i + 1 < len(rows) and rows[i + 1][0] != row[0] and head[0] == "operation")
        console.print(table)
    for line in (_versions(records), where, *remarks):
        console.print(line, markup=False, highlight=False)


def markdown(records: Sequence[Record], remarks: Sequence[str], where: str) -> str:
    """The same tables as a Markdown page fragment."""
    lines = [f"Measured on {where}. {_versions(records)}.", ""]
    for title, head, rows in _sections(records):
        lines += [f"**{title}**", "", f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows] + [""]
    lines += [f"- {remark}" for remark in remarks]
    return "\n".join(lines).rstrip() + "\n"
