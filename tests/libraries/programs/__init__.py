"""One program for each library: what its users do."""
