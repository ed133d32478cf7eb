"""Files that hold quantized models and results, and the size of both."""
