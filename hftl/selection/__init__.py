"""Questions before and after a run: which model, which method, how many rows."""
