"""What a quantized language model is worth: perplexity, generated text, and true sizes."""
