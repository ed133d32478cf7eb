"""What every layer of a model becomes: schemes, and the configurations that assign them."""
