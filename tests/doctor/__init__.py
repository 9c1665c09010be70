"""The doctor's checks against counts made by hand or by brute force, what --fix writes, and the verb."""
