"""What a model does with calibration data: the calls that it gets, and statistics of what its layers are fed."""
