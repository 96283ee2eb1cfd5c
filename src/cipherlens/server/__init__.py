"""The provider's side: trains and classifies on ciphertexts. Nothing here can decrypt, or imports what can."""

from cipherlens.server.classifying import classify
from cipherlens.server.training import train

__all__ = ["classify", "train"]
