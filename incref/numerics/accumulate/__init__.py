"""Models of the accumulators that machines have: what a matrix product becomes when its sums are rounded on the way."""
