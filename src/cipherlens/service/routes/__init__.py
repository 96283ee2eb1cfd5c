"""What the service answers to, one concern a module."""
