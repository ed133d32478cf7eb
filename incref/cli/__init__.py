"""The command `incref`."""
