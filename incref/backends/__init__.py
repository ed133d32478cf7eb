"""Other implementations of the operations: what there is, and why the rest is not."""
