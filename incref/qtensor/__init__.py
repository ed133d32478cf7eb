"""Quantized tensors: codes and scales with the description of how they came to be."""
