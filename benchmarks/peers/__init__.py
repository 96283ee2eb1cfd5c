"""Peer libraries measured beside Cipherlens; each module runs in its own environment as `python -m peers.NAME`."""
