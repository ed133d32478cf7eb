"""Layers that hold quantized weights."""
