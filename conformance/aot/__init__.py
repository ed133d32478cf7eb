"""Every Triton kernel compiled for every GPU, without one, and its machine code looked at."""
