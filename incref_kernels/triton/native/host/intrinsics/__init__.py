"""The functions that LLVM and AMD build into the language, each by its published meaning."""
