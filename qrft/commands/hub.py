"""Upload a folder to the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qrft.data.files import reason
from qrft.errors import ModelError, UsageError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
LOGIN = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write."


def check_name(name: str) -> None:
    """Raise UsageError for what is no name of a repository."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"--push {name[:100]}: is no name of a repository. Expected ORG/NAME, such as me/my-model.")


def check_access(name: str) -> None:
    """Raise UsageError or ModelError, before any work, where nothing could be uploaded: no login, no network."""
    check_name(name)
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise UsageError(f"--push {name}: this machine is not logged in to the Hugging Face hub. {LOGIN}")
    with _hub_errors(name, "nothing was exported"):
        HfApi().whoami()


def push(folder: Path, name: str, *, is_private: bool, is_dry: bool) -> dict[str, Any]:
    """Upload the folder as the repository `name`, which is made if need be; with `is_dry` say only what would go."""
    check_name(name)
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    facts: dict[str, Any] = {"repository": name, "private": is_private, "files": files, "is_dry": is_dry}
    if is_dry:
        return facts
    from huggingface_hub import HfApi

    with _hub_errors(name, f"the files are in {folder}: upload them with `hf upload {name} {folder}`"):
        api = HfApi()
        api.create_repo(name, private=is_private, exist_ok=True)
        commit = api.upload_folder(repo_id=name, folder_path=folder, commit_message="Made with qrft export")
    return {**facts, "url": str(getattr(commit, "commit_url", f"https://huggingface.co/{name}"))}


@contextmanager
def _hub_errors(name: str, state: str) -> Iterator[None]:
    """Turn whatever the hub's library raises into one message; `state`: what there is now."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except Exception as error:  # each layer of the library raises its own
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        way = {
            401: f"The token is not valid. {LOGIN}",
            403: f"The token may not write there. {LOGIN} Or choose another ORG/NAME.",
        }.get(status or 0, "Look at the network and the name, then run it again.")
        raise ModelError(f"--push {name}: {reason(error).rstrip('.')}; {state}. {way}") from error
