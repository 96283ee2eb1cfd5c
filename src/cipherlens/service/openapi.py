"""The OpenAPI document as text: `python -m cipherlens.service.openapi FILE` writes it, for the repository."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cipherlens.service.app import routed


def document() -> str:
    """The document that a service serves at /openapi.json, indented and in a fixed order."""
    return json.dumps(routed().openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
