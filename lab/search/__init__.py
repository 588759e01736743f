"""Searches with KerasTuner. Imported by what searches, and by nothing else."""
