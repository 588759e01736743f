"""Commands: flags, checks of what was asked for, the live table, and the list of recipes."""
