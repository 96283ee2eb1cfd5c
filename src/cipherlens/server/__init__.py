"""The provider's side: trains and classifies on ciphertexts. Nothing here can decrypt, or imports what can."""

from cipherlens.server.classifying import classify, classify_to_file
from cipherlens.server.cluster import open_cluster
from cipherlens.server.switching import switch_images, switch_model
from cipherlens.server.training import train

__all__ = ["classify", "classify_to_file", "open_cluster", "switch_images", "switch_model", "train"]
