"""Every error that Cipherlens raises on purpose, in one tree.

    CipherlensError
    ├── PlanError          the task cannot be planned or does not fit the given limits
    ├── SecurityError      parameters outside the security table, or an operation that would endanger the key
    ├── KeyMismatch        the wrong key, passphrase or task for this data
    ├── FormatError        bytes that are not what they claim to be: truncated, altered, of another version
    ├── InputError         images, labels or arguments that cannot be used
    ├── RangeError         values left the range that was planned for; the result would be wrong
    ├── UnsupportedLayer   a network holds a layer that cannot be applied to ciphertexts
    └── ServerError        the other side failed or could not be reached

Each message is one sentence or two that say what happened, why, and what to do next, with numbers where there
are any. Messages never hold secret values, scores, labels or pixel data.
"""


class CipherlensError(Exception):
    """Root of the tree: catch this to catch everything that Cipherlens refuses on purpose."""


class PlanError(CipherlensError):
    """The task cannot be planned: it needs more depth, memory or images than there are."""


class SecurityError(CipherlensError):
    """Parameters above the security table, or an operation that would endanger a secret key."""


class KeyMismatch(CipherlensError):
    """A key, passphrase or task that does not belong to this data."""


class FormatError(CipherlensError):
    """Bytes that are not what they claim to be."""


class InputError(CipherlensError, ValueError):
    """Images, labels or arguments that cannot be used. Also a ValueError, as scikit-learn expects."""


class RangeError(CipherlensError):
    """Values left the range that was planned for, so the decrypted result would be wrong."""


class UnsupportedLayer(CipherlensError):
    """A network holds a layer that cannot be applied to ciphertexts."""


class ServerError(CipherlensError):
    """The other side failed, or could not be reached."""
