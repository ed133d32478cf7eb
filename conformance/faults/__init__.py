"""Faults that the suite has to find, and right implementations that it must not reject: the suite's own proof."""
