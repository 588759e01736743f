"""What KerasTuner's searches need beside KerasTuner. Imported by the recipes that search, and by nothing else."""
