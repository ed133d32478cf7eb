"""What an implementation is judged by: probes whose answer is unique, and bounds derived for its accumulator."""
