"""Problems from the Hugging Face hub, downloaded once."""

from __future__ import annotations

import logging
from pathlib import Path

from qrft.data.disk import cache_folder
from qrft.data.files import reason
from qrft.data.problems.problem_set import Hub
from qrft.errors import DataError


def download(hub: Hub, called: str, way_out: str, where: str = "") -> Path:
    """Return the file, or the folder of several files, that the hub has; it is downloaded where it is not here yet.

    called, way_out: the beginning and the end of the DataError that says why it can't be had; where: where it was
    looked for.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries say less than the error below
    name, files, revision = hub
    try:
        if len(files) == 1:
            return Path(hf_hub_download(name, files[0], repo_type="dataset", revision=revision, etag_timeout=10))
        folder = cache_folder() / "problems" / called.replace("/", "-")
        snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=[*files], local_dir=folder, etag_timeout=10
        )
        return folder
    except Exception as error:  # no network, no permission: each layer of the library raises its own
        names = ", ".join(hub.files[:3])
        raise DataError(
            f"{called}: not on this machine{where}, and {names} of {hub.name} could not be downloaded from the Hugging "
            f"Face hub ({reason(error).rstrip('.')}). {way_out}"
        ) from error
