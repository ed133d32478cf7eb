"""Bit-exact arithmetic on tensors, beneath the operations of `incref.ops`."""
