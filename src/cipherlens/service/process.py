"""What the service's processes have in common: settings from the supervisor, and an end with it, however it ended."""

from __future__ import annotations

import os
import resource
import sys
import threading
from contextlib import suppress

from cipherlens.service.settings import Settings


def read_settings() -> Settings:
    """The settings, from standard input."""
    return Settings.model_validate_json(sys.stdin.buffer.read())


def open_many_files() -> None:
    """Let this process, and those that it starts, have as many files open as the system allows: data sets have many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems call it unlimited, and then do not allow that
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def end_with_parent(pipe: int) -> None:
    """End this process at once when the other end of the pipe closes.

    The supervisor alone holds that end, so the system closes it even when the supervisor is killed.
    """

    def watch() -> None:
        while os.read(pipe, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
