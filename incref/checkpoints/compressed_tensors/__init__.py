"""Checkpoints of the library compressed-tensors, which vLLM reads and LLM Compressor writes."""
