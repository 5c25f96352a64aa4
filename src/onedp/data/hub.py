"""``hub:OWNER/NAME``: data sets of the Hugging Face Hub, downloaded once into its own cache."""

from __future__ import annotations

from pathlib import Path

from onedp.errors import DataError

PREFIX = "hub:"


def local_data_set(path: str | Path) -> Path:
    """``path`` itself, or where the data set ``hub:OWNER/NAME`` (``hub:OWNER/NAME@REVISION``) lies on this machine.

    Raises ``DataError`` when it cannot be had: no such data set, no network, no package.
    """
    if not str(path).startswith(PREFIX):
        return Path(path)
    name, _, revision = str(path).removeprefix(PREFIX).partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise DataError(
            f"'{path}' names no data set of the Hub. Expected hub:OWNER/NAME, for example hub:lerobot/pusht."
        )
    try:
        import huggingface_hub
    except ImportError as error:
        raise DataError(
            f"'{path}' needs the package huggingface_hub, which cannot be imported ({error}). Install it with: "
            "pip install 'onedp[hub]', or download the data set yourself and pass its folder."
        ) from error
    try:
        folder = huggingface_hub.snapshot_download(name, repo_type="dataset", revision=revision or None)
    except Exception as error:  # its own kinds, those of requests and httpx, ValueError for odd names
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"'{path}' could not be downloaded ({type(error).__name__}: {reason}). Check the name, the network and "
            "whether it needs a login (huggingface-cli login); or pass the folder of a copy on this machine."
        ) from error
    return Path(folder)
