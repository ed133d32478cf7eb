"""The Triton language, operation by operation and type by type: which results are wrong."""
