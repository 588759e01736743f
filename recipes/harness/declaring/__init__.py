"""What a recipe's author writes: variants, claims, tuning, panels, and the `Recipe` that holds them. Data only."""
