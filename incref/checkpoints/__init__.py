"""Files that hold quantized models."""
