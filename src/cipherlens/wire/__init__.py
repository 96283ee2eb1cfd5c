"""The file format: everything that touches bytes from outside."""
