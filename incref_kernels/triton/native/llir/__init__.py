"""LLVM's textual assembly as data: read, inspected, and written again in the words that every LLVM knows."""
