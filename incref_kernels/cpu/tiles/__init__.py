"""What kernels do to one tile, in the steps of the reference."""
