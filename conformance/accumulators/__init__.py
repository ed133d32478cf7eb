"""Finds out how a matrix unit adds: directed probes, the model that explains them, and its replay on random data."""
