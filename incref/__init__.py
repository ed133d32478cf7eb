"""A bit-exact numerical reference for low-precision deep learning."""
