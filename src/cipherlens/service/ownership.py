"""Whose the files of a service's folder are."""

from __future__ import annotations

import os
from pathlib import Path


def give_to_owner(file: int, folder: Path) -> None:
    """Where root makes a file, it belongs to whom the folder belongs to: the service, which runs as another user."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(file, owner.st_uid, owner.st_gid)
