"""A kernel's LLVM IR, rewritten for the host: lanes that meet, programs that loop over them, the GPU's intrinsics."""
