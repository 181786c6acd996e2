"""The rows of the comparison, a file each, in the order of the table."""
