"""What comes in: one file for each kind of row."""
