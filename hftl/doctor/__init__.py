"""Examines labelled data before training: duplicates, leaks, faulty rows and labels, and mends what can be mended."""

from hftl.doctor.examine import doctor, doctor_splits
from hftl.doctor.findings import Finding


__all__ = ["Finding", "doctor", "doctor_splits"]
