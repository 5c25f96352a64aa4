"""Serving policies over websockets, in the protocol of openpi. Torch-free; see docs/serving.md."""
