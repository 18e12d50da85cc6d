"""HTML that cannot be broken by what is put into it: plain text is escaped, only what `tag` made is taken as it is."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from .words import clean


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | int | float
"""Markup, or text of any origin."""


def escaped(content: Content) -> str:
    """The content as HTML."""
    if isinstance(content, Markup):
        return str(content)
    return html.escape(clean(content), quote=True)


def tag(name: str, *content: Content, **attributes: Content) -> Markup:
    """An element. `class_` stands for `class`, `_` within a name for `-`."""
    said = "".join(f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{said}>{''.join(map(escaped, content))}</{name}>")


def together(parts: Iterable[Content]) -> Markup:
    """One after the other."""
    return Markup("".join(map(escaped, parts)))


def table(head: Sequence[Content], rows: Iterable[Sequence[Content]], **attributes: Content) -> Markup:
    """A table; the first cell of each row names the row."""
    names = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = [tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest)) for first, *rest in rows]
    return tag("table", tag("thead", names), tag("tbody", *body), **attributes)
