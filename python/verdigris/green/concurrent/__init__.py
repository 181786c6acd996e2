"""`concurrent`, green: the package that has `futures`."""
