"""Small breaks of the source, and which tests must notice each: `python -m tests.breaks`."""
