"""The owner's and the contributors' side: keys, encryption, decryption."""

from cipherlens.owner.decryption import Answers
from cipherlens.owner.keys import ContributorKeys, Keys, OwnerSecrets

__all__ = ["Answers", "ContributorKeys", "Keys", "OwnerSecrets"]
