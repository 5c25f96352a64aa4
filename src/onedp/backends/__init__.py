"""Exported policies at run time: numpy in, numpy out, no torch."""

from onedp.backends.policy import ExportedPolicy, load_backend

__all__ = ["ExportedPolicy", "load_backend"]
