"""The demonstration's report: what ran, what the server saw, what came out, as one self-contained page."""
