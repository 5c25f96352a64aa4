"""Reading diffusion_policy's ``.ckpt`` files without executing anything in them.

They are torch archives pickled with dill, so reading them the usual way runs whatever the author put in. PyTorch's
restricted unpickler builds tensors and plain containers only; to it we add inert stand-ins for the few names that an
honest checkpoint needs for its configuration. Neither dill nor omegaconf is imported. The entry ``pickles`` (bytes that
are pickles themselves) is never looked at.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from onedp.errors import CheckpointError


class _Node:
    """Stand-in for omegaconf's classes: an object that holds the attributes it is given and does nothing."""


class _DictConfig(_Node):
    """``omegaconf.DictConfig``."""


class _ListConfig(_Node):
    """``omegaconf.ListConfig``."""


class _AnyNode(_Node):
    """``omegaconf.AnyNode``: one value."""


class _Metadata(_Node):
    """``omegaconf.base.Metadata`` and ``ContainerMetadata``."""


class _Inert:
    """Stand-in for a type that is named but not needed."""


def _no_type(name: str) -> type[_Inert]:
    """For ``dill._dill._load_type``, which would look the type up: we never need it."""
    return _Inert


def _plain_dict(factory: Any = None, *items: Any) -> dict[Any, Any]:
    """For ``collections.defaultdict``: a plain dict."""
    return {}


STAND_INS: list[Any] = [
    (_DictConfig, "omegaconf.dictconfig.DictConfig"),
    (_ListConfig, "omegaconf.listconfig.ListConfig"),
    (_AnyNode, "omegaconf.nodes.AnyNode"),
    (_Metadata, "omegaconf.base.Metadata"),
    (_Metadata, "omegaconf.base.ContainerMetadata"),
    (_Inert, "typing.Any"),
    (_plain_dict, "collections.defaultdict"),
    (_no_type, "dill._dill._load_type"),
    *((_Inert, f"builtins.{name}") for name in ("dict", "list", "tuple", "str", "int", "float", "bool")),
]
"""(Stand-in, name): what is put in the place of each name; everything else is refused."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Configuration (plain dicts and lists) and weights of a ``.ckpt``: ``{"cfg": ..., "state_dicts": ...}``.

    Raises ``CheckpointError`` naming whatever the file refers to beyond tensors and configuration.
    """
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path} is not a PyTorch archive (zip). Expected a .ckpt of diffusion_policy, or a LeRobot folder."
        )
    try:
        with torch.serialization.safe_globals(STAND_INS):
            unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if unsafe:
                raise CheckpointError(_refusal(path, unsafe))
            data = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be read: {reason}. It is damaged or no checkpoint.") from error
    if not isinstance(data, Mapping) or not {"cfg", "state_dicts"} <= set(data):
        raise CheckpointError(
            f"{path} has no 'cfg' and 'state_dicts'. Expected a .ckpt that diffusion_policy's workspace wrote."
        )
    return {"cfg": plain(data["cfg"]), "state_dicts": data["state_dicts"]}


def _refusal(path: Path, unsafe: list[str]) -> str:
    return (
        f"{path} is refused: besides tensors and configuration it refers to {', '.join(sorted(unsafe))}, and reading "
        "it the usual way would call that. Nothing was executed. Do not load this file with other tools unless "
        "you trust whoever made it."
    )


LARGEST_CONFIG = 100_000
"""Values that an honest configuration never has: each mention counts, so few bytes cannot unfold to gigabytes."""
DEEPEST_CONFIG = 100


def plain(node: Any) -> Any:
    """The values of stand-ins for configuration nodes, as dicts, lists and scalars.

    Raises ``CheckpointError`` for other values, and for a configuration that holds itself or unfolds without end.
    """
    seen = 0

    def unfolded(node: Any, depth: int) -> Any:
        nonlocal seen
        seen += 1
        if depth > DEEPEST_CONFIG or seen > LARGEST_CONFIG:
            raise CheckpointError(
                f"The checkpoint's configuration is deeper than {DEEPEST_CONFIG} levels or has more than "
                f"{LARGEST_CONFIG:,} values: it holds itself, or was made to exhaust memory."
            )
        if isinstance(node, _AnyNode):
            return unfolded(vars(node).get("_val"), depth + 1)
        if isinstance(node, _DictConfig | _ListConfig):
            return unfolded(vars(node).get("_content"), depth + 1)
        if isinstance(node, Mapping):
            return {str(key): unfolded(value, depth + 1) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [unfolded(value, depth + 1) for value in node]
        if node is None or isinstance(node, bool | int | float | str):
            return node
        raise CheckpointError(f"The checkpoint's configuration holds a {type(node).__name__}, which is no plain value.")

    return unfolded(node, 0)
