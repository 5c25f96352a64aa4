"""Policies side by side on one web page, in real time: Push-T with a T that the user can drag away. Torch-free."""
