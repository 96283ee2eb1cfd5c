"""How objects look in a notebook: their repr, which never shows data, as preformatted text."""

from __future__ import annotations

from html import escape


class NotebookRepr:
    """Gives a class `_repr_html_` from its repr."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"
