"""A model's files on the Hugging Face Hub -> a folder in the local cache, with our progress and our sentences."""

import io
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm

from detox_engine.errors import Cancelled, InputError, Progress, first_line
from detox_engine.model import adapter
from detox_engine.model.checkpoint import (
    INDEX,
    WAYS_OUT,
    check_weight_names,
    read_config,
    read_index,
    weight_names,
)

SECONDS_TO_ANSWER = 10


def download_model(name: str, revision: str | None, progress: Progress) -> Path:
    """The folder in the local cache with the files of Hub model `name`; its own name is the commit.

    Asks the Hub first, so that a branch is up to date; where the Hub cannot be reached, takes what the cache holds.

    Raises:
        InputError: there is no such model or revision, it is gated, it has no safetensors, or there is neither a
            connection nor a copy in the cache.
    """
    shown = f"“{name}”"

    def fetch(files: list[str]) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=files, tqdm_class=reporting_bar(progress)
            )
        )

    try:
        listing = huggingface_hub.model_info(name, revision=revision, timeout=SECONDS_TO_ANSWER)
        names = [file.rfilename for file in listing.siblings or () if "/" not in file.rfilename]
        small = [file for file in names if file.endswith((".json", ".txt", ".model", ".jinja"))]
        if weight_names(names) or INDEX in names:
            # An adapter that lies beside a whole model is none of it.
            small = [file for file in small if file != adapter.CONFIG]
        elif adapter.WEIGHTS in names:
            return fetch([*small, adapter.WEIGHTS])
        check_weight_names([file for file in names if file != adapter.CONFIG], shown)
        folder = fetch(small)
        read_config(folder, shown)  # a model that cannot be used is refused before its weights come
        return fetch(small + (weight_names(names) or read_index(folder / INDEX, shown)))
    except (Cancelled, InputError):
        raise
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise InputError(explain(error, name, revision)) from error
    except Exception as error:  # every way in which a network fails: refused, timed out, offline, no such host, a proxy
        return find_in_cache(name, revision, error)


def find_in_cache(name: str, revision: str | None, cause: Exception) -> Path:
    """The cached folder of a model that cannot be asked for on the Hub because of `cause`."""
    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, local_files_only=True, allow_patterns=["config.json", adapter.CONFIG]
        )
        return Path(folder)
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise InputError(explain(cause, name, revision)) from cause


def explain(error: Exception, name: str, revision: str | None) -> str:
    """One sentence on why a model did not come from the Hub, and the ways out."""
    if isinstance(error, HFValidationError):
        return f"“{name}” is neither a folder nor a Hub id such as openai-community/gpt2: {WAYS_OUT}."
    if isinstance(error, GatedRepoError):
        return f"“{name}” is gated: ask for access on its page on the Hub and run `hf auth login`, or {WAYS_OUT}."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no folder and no public model “{name}” on the Hub: check the spelling, run `hf auth login` "
            f"if it is private, or {WAYS_OUT}."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"“{name}” has no revision “{revision}” on the Hub: give a branch, tag or commit that it has."
    why = "HF_HUB_OFFLINE is set" if isinstance(error, OfflineModeIsEnabled) else first_line(error)
    return (
        f"“{name}” is no folder, is not in the local cache, and the Hub could not be reached ({why}): check the "
        f"network, or {WAYS_OUT}."
    )


def reporting_bar(progress: Progress) -> type[tqdm]:
    """A progress bar class that draws nothing and reports the bytes that have come to `progress`."""
    furthest = -1

    class ReportingBar(tqdm):
        def __init__(self, *args, **options) -> None:
            self.counts_bytes = options.get("unit") == "B"
            super().__init__(*args, **(options | {"file": io.StringIO()}))

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal furthest
            drawn = super().update(n)
            if self.counts_bytes and self.total and self.n > furthest:
                furthest = self.n
                progress("Downloading the model", int(self.n), int(self.total))
            return drawn

    return ReportingBar
