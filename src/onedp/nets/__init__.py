"""Networks and their tables: configs (torch-free dataclasses are in ``onedp.nets.config``) to modules."""
