"""What is recorded of a run, where it came from, and a hash of the code that made it."""
