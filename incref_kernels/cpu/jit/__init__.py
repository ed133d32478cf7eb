"""Functions on tiles compiled for this processor: traced, written as LLVM instructions, wrapped in loops."""
