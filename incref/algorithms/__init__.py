"""From a weight and a spec, with or without statistics, to a quantized tensor; tensors only, no models."""
