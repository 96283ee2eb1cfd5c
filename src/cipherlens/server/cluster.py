"""The choice of a cluster by its name."""

from __future__ import annotations

import os
import re
import secrets
import sys
from typing import TYPE_CHECKING

from cipherlens.errors import InputError

if TYPE_CHECKING:
    from cipherlens.server.ray_cluster import RayCluster

ADDRESS = re.compile(r"ray://(?P<address>(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5})")


def check_cluster(name: str) -> str | None:
    """The address in a cluster's name; None for a Ray of one's own.

    Raises:
        InputError: it is neither "ray" nor "ray://HOST:PORT".
    """
    if name == "ray":
        return None
    match = ADDRESS.fullmatch(name)
    if match is None:
        raise InputError(f"there is no cluster {name!r}; say ray for one on this machine, or ray://HOST:PORT")
    return match["address"]


def open_cluster(name: str, *, threads: int | None = None) -> RayCluster:
    """A cluster for `train` and `classify`; leave its `with` block, or `close` it, to let go of it.

    name: "ray" starts Ray on this machine, for as long as the cluster is open; "ray://HOST:PORT" joins one that runs,
    from a machine that belongs to it. threads: cores that one shard takes.

    Raises:
        InputError: another name, or Ray is not installed.
        ServerError: no cluster answers at this address, or one that does not fit.
    """
    address = check_cluster(name)
    if address is None and "ray" not in sys.modules:
        # Its ports listen on every interface. Ray reads a token once, when it is first imported; later it makes one in
        # ~/.ray itself, which others on this machine may be able to read.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        from cipherlens.server.ray_cluster import RayCluster
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise InputError("a Ray cluster needs Ray, which is not installed; pip install 'cipherlens[ray]'") from None
    return RayCluster(address, threads=threads)
