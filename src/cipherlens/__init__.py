"""Train and apply image classifiers on encrypted images.

    import cipherlens as cl

    task = cl.plan(images, labels)                       # print(task): the cost before you pay
    keys = cl.owner.Keys.create(task)
    data = keys.encrypt(images, labels)                  # a contributor: keys.public.encrypt(...)
    model = cl.server.train(data, keys.evaluation)       # on a machine that has no secret key
    reply = cl.server.classify(model, keys.encrypt(new_images), keys.evaluation)
    keys.decrypt(reply).labels

Names are resolved when they are first used, so that a server never loads the owner's half.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cipherlens import errors, local, owner, server
    from cipherlens.client import connect
    from cipherlens.planning.plan import plan

__version__ = "0.1.0"

__all__ = ["__version__", "connect", "errors", "local", "owner", "plan", "server"]

_MODULES = ("errors", "local", "owner", "server")
_FUNCTIONS = {"connect": "cipherlens.client", "plan": "cipherlens.planning.plan"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"cipherlens.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'cipherlens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
