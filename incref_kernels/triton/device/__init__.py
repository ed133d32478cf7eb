"""Functions that kernels call: the steps of `incref.numerics`, in the same order and under the same names.

Formats and options reach them as compile-time constants, as the rows and enums that they are. All of them work on bit
patterns, so the interpreter, NVIDIA's and AMD's machine code can't differ. Two things follow from how Triton reads its
sources: a local constant is annotated `tl.constexpr`, and a decision that takes more than one comparison is a function
of `facts`.
"""
