"""Exports a trained classifier to run without PyTorch, and proves that what was written is the model."""

from hftl.export.export import ExportReport, export


__all__ = ["ExportReport", "export"]
