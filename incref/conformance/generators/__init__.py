"""What draws the cases: one file for each kind of operation."""
