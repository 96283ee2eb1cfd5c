"""Long lists in portions: newest first, each from where the one before it ended."""

from __future__ import annotations

import struct
from typing import TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

PORTION = 200
"""Entries of one answer."""

TIME = struct.Struct(">d")
CURSOR_DIGITS = 2 * TIME.size + 32
"""Hexadecimal digits of a time, exact to the last bit, and of an id."""

Row = TypeVar("Row")


def portion(
    session: Session, query: Select[Row], when: InstrumentedAttribute[float], id: InstrumentedAttribute[str], before: str | None
) -> tuple[list[Row], str | None]:  # fmt: skip
    """The next rows of a list, and the cursor with which to go on behind them; None at the end.

    The cursor is the last row's place in the order, not a number of rows: whatever is added or deleted meanwhile, a row
    that stays is listed once.

    Args:
        query: the rows of the whole list.
        when, id: what they are ordered by, newest first; both must never change.
        before: a cursor that an earlier call gave; None begins.
    """
    if before is not None:
        (then,) = TIME.unpack(bytes.fromhex(before[: 2 * TIME.size]))
        query = query.where((when < then) | ((when == then) & (id < before[2 * TIME.size :])))
    rows = list(session.scalars(query.order_by(when.desc(), id.desc()).limit(PORTION + 1)))
    if len(rows) <= PORTION:
        return rows, None
    last = rows[PORTION - 1]
    return rows[:PORTION], TIME.pack(getattr(last, when.key)).hex() + str(getattr(last, id.key))
