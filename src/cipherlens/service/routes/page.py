"""The page at `/`: three files of this package, which load nothing from anywhere else."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

router = APIRouter(include_in_schema=False)

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@router.get("/")
def page() -> Response:
    """The page itself."""
    return _file("index.html", "text/html; charset=utf-8")


@router.get("/page.css")
def style() -> Response:
    """How it looks."""
    return _file("page.css", "text/css; charset=utf-8")


@router.get("/page.js")
def script() -> Response:
    """What it does."""
    return _file("page.js", "text/javascript; charset=utf-8")


def _file(name: str, kind: str) -> Response:
    content = (files("cipherlens.service") / "page" / name).read_bytes()
    return Response(content, media_type=kind, headers=HEADERS)
