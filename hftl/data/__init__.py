"""Data in: any labelled source becomes `Splits`."""
