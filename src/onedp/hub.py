"""Policies on the Hugging Face hub, or a server that speaks its protocol (``HF_ENDPOINT``). Torch-free.

A repository holds one policy: an artifact (``spec.json``, ...) or an export (``manifest.json`` and the files it names).
Nothing that comes from there is trusted: what is not named is not taken, digests are checked, nothing is unpickled.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from onedp.artifact import read_manifest, read_weights, resolve_artifact
from onedp.backends.manifest import MANIFEST_FILE, is_export, read_export
from onedp.errors import ArtifactError, HubError, OneDPError
from onedp.evaluate.scores import Scores
from onedp.files import is_ours, replaced_folder, require_writable, write_text
from onedp.hub_card import hub_card

ARTIFACT_FILES = ("spec.json", "weights.safetensors", "norm_stats.json", "provenance.json")
EXPORT_FILES = (MANIFEST_FILE, "parity.json")
CARD = "README.md"
DEFAULT_ENDPOINT = "https://huggingface.co"
ODD_ANSWER = (ValueError, TypeError, AttributeError, LookupError)
"""What the hub's client raises when an answer is no JSON, or JSON of another shape: it checks none of it."""
WANTED = ("*.json", "*.safetensors", "*.onnx", "*.xml", "*.bin", CARD)
"""Files that a policy may consist of; others in a repository are not downloaded."""


def push_policy(policy: str | Path, repository: str, public: bool = False, results: Scores | None = None) -> str:
    """Upload a policy folder, a shipped policy or an export in one commit; returns the address of the commit.

    The repository is made, private unless ``public``. An export has a model card; a policy folder gets one, with the
    scores of ``results``. Raises ``ArtifactError`` when the policy is damaged, ``HubError``
    when the hub refuses or does not answer, or the repository is public and that was not asked for.
    """
    check_name(repository)
    folder = Path(policy) if is_export(Path(policy)) else resolve_artifact(policy)
    names = _checked_files(folder)
    paths = {name: folder / name for name in names}
    api = _api()
    with tempfile.TemporaryDirectory() as workspace:
        if not is_export(folder):
            paths[CARD] = Path(workspace) / CARD
            write_text(paths[CARD], hub_card(read_manifest(folder), repository, results))
        with _explained(repository, "push"):
            return _commit(api, repository, paths, public, f"onedp push: {folder.name}")


def _commit(api: Any, repository: str, paths: Mapping[str, Path], public: bool, message: str) -> str:
    """Make the repository, and one commit that leaves these files of a policy there; returns its address."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api.create_repo(repository, private=not public, exist_ok=True)
    if not public and api.model_info(repository).private is False:
        raise HubError(
            f"{repository} exists and is public: everybody could read what is pushed to it. Say so with "
            "--public, or choose another name."
        )
    old = set(api.list_repo_files(repository)) & ({*ARTIFACT_FILES, *EXPORT_FILES} - set(paths))
    operations: list[Any] = [CommitOperationDelete(name) for name in sorted(old)]  # of another kind of policy
    operations += [CommitOperationAdd(name, path) for name, path in paths.items()]
    return str(api.create_commit(repository, operations, commit_message=message).commit_url)


def pull_policy(repository: str, out: Path, revision: str | None = None) -> str:
    """Download a policy to the folder ``out``, checked like a local one; returns "policy" or "export".

    Raises ``HubError`` when the hub does not give it, ``ArtifactError`` when it is damaged or no policy; ``out`` is
    then left as it was.
    """
    check_name(repository)
    require_writable(out / "spec.json")
    ours = is_ours(out, "spec.json", "format_version") or is_ours(out, MANIFEST_FILE, "weights_digest")
    if out.exists() and not ours and (out.is_file() or any(out.iterdir())):
        raise ArtifactError(f"{out} exists and is not a policy folder; it is left alone. Choose another --out.")
    source = hub_folder(repository, revision)
    names = _checked_files(source)
    with replaced_folder(out) as folder:
        for name in names:
            shutil.copyfile(source / name, folder / name)
    return "policy" if _is_policy(out) else "export"


def hub_folder(repository: str, revision: str | None = None) -> Path:
    """Folder of the hub's cache with the repository's newest (or ``revision``'s) files, downloaded where missing.

    A complete copy in the cache is used when the hub does not answer. Raises ``HubError``.
    """
    check_name(repository)
    api = _api()
    with _explained(repository, "pull"):
        return Path(api.snapshot_download(repository, revision=revision, allow_patterns=list(WANTED)))


def check_name(repository: str) -> None:
    """Raise ``HubError`` unless ``repository`` is OWNER/NAME."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repository) or re.search(r"--|\.\.", repository):
        raise HubError(
            f"'{repository}' is no repository of the hub. Expected OWNER/NAME, for example: me/pusht-student"
        )


def _checked_files(folder: Path) -> list[str]:
    """Names of the files of the policy in ``folder``, after the checks that loading makes; raises ``ArtifactError``."""
    if _is_policy(folder):
        read_weights(folder, read_manifest(folder))
        names = list(ARTIFACT_FILES)
    elif is_export(folder):
        names = [*read_export(folder).files, *(name for name in EXPORT_FILES if (folder / name).is_file())]
    else:
        raise ArtifactError(f"{folder} holds no policy: it has neither spec.json nor {MANIFEST_FILE}.")
    return names + ([CARD] if (folder / CARD).is_file() else [])


def _is_policy(folder: Path) -> bool:
    return (folder / "spec.json").is_file()


def _endpoint() -> str:
    """Address of the hub; raises ``HubError`` when ``HF_ENDPOINT`` is none."""
    given = os.environ.get("HF_ENDPOINT", "").strip() or DEFAULT_ENDPOINT
    try:
        parts = urlsplit(given)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port out of range
        usable = False
    if not usable:
        raise HubError(
            f"HF_ENDPOINT is '{given}', expected the address of a hub, such as {DEFAULT_ENDPOINT}. Correct it, or "
            "unset it."
        )
    return given


def _api() -> Any:
    endpoint = _endpoint()  # first: the client itself fails to be imported with an odd one
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise HubError("The hub's client is not installed: pip install 'onedp[hub]'") from error
    return HfApi(endpoint=endpoint, library_name="onedp")


@contextmanager
def _explained(repository: str, verb: str) -> Iterator[None]:
    """Turn the errors of the hub's client, and of its transport, into ``HubError``.

    Only calls of the client belong inside: what it does not expect of an answer ends in any of ``ODD_ANSWER``.
    """
    try:
        yield
    except OneDPError:
        raise
    except Exception as error:  # the transport's family depends on the client's version
        explanation = _explanation(error, repository, verb)
        if explanation is None:
            raise
        raise HubError(explanation) from error


def _explanation(error: Exception, repository: str, verb: str) -> str | None:
    """What happened, in words; None when it is not of the hub's making."""
    endpoint, status = _endpoint(), _status(error)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if status in (401, 403, 404):
        return (
            f"{endpoint} does not let you {'write to' if verb == 'push' else 'read'} {repository} (status {status}): "
            "it does not exist, or is not yours. Check the name; log in with: hf auth login, or set HF_TOKEN."
        )
    if status is not None:
        return f"{endpoint} refused to {verb} {repository} (status {status}): {reason}"
    if type(error).__name__ == "HFValidationError":
        return f"The hub's client refuses '{repository}': {reason}"
    if _is_connection_error(error):
        return (
            f"{endpoint} cannot be reached to {verb} {repository} ({reason}). Check the connection (HF_HUB_OFFLINE, "
            "HF_ENDPOINT) and try again; policies in folders need no hub."
        )
    if isinstance(error, ODD_ANSWER):
        return (
            f"{endpoint} answered to {verb} {repository}, but not as a hub does ({type(error).__name__}: {reason}). "
            "Check HF_ENDPOINT, and whether the login page of a network answers in its place; policies in folders need "
            "no hub."
        )
    return None


def _status(error: BaseException) -> int | None:
    """Of the refusal that began it: the client wraps what it got while it looks into its cache."""
    following: BaseException | None = error
    while following is not None:
        status = getattr(getattr(following, "response", None), "status_code", None)
        if isinstance(status, int) and status >= 400:
            return status
        following = following.__cause__ or following.__context__
    return None


def _is_connection_error(error: Exception) -> bool:
    if isinstance(error, ValueError):  # what cannot be decoded, of whichever family, did arrive
        return False
    families = {each.__module__.split(".")[0] for each in type(error).__mro__}
    return isinstance(error, OSError) or bool(families & {"httpx", "httpx2", "requests"})
