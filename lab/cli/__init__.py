"""Commands: flags, checks of what was asked for, the live table, what is printed at the end."""
