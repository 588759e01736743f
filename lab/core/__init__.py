"""What makes a number: the run, its scores, its timing, its training loop. Nothing here draws or prints."""
