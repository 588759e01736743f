"""Cards, figures, index pages, and what is published."""
