"""From a model and a configuration to a quantized model, to a directory, and back."""
