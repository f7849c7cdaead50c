"""An exported folder to the Hub, by huggingface_hub and its own login; nothing leaves this machine unasked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, metadata_load
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from detox_engine.errors import InputError, first_line
from detox_engine.export.licence import HUB
from detox_engine.export.receipt import list_wrong_files, read_receipt

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
HOLDS_TEXTS = ("report.html", "evaluation.json")
"""Files that hold prompts and what the model wrote."""


@dataclass(frozen=True)
class Push:
    """What is uploaded where, or would be."""

    to: str
    private: bool
    sizes: dict[str, int]
    """Name of each file -> bytes."""
    url: str
    """Of the commit; empty where nothing was uploaded."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be known before it is done."""
        texts = [name for name in HOLDS_TEXTS if name in self.sizes]
        told = (
            [f"{' and '.join(texts)} hold{'s' * (len(texts) == 1)} prompts and what the model wrote."] if texts else []
        )
        if not self.private:
            told.append("Everybody can read it there.")
        return tuple(told)


def push_export(folder: Path, to: str, private: bool = False, upload: bool = False) -> Push:
    """Upload an exported folder to the model repository `to`, which is made where there is none.

    Args:
        to: `USER/NAME`.
        upload: without it nothing is sent, and what would be is told.

    Raises:
        InputError: the folder is not what its receipt says, its card has no licence that the Hub knows, or the Hub
            cannot be reached or refuses.
    """
    if not NAME.fullmatch(to):
        raise InputError(f"“{to[:100]}” is no repository: write USER/NAME.")
    sizes = _check_folder(folder)
    if not upload:
        return Push(to, private, sizes, "")
    with _told(to):
        api = HfApi()
        api.create_repo(to, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=to, folder_path=folder, commit_message="An edit by DeTox Explorer")
    return Push(to, private, sizes, commit.commit_url)


def _check_folder(folder: Path) -> dict[str, int]:
    """The files of the folder with their sizes, each of which is what the receipt says."""
    receipt = read_receipt(folder)
    wrong = list_wrong_files(receipt, folder)
    if wrong:
        raise InputError(
            f"{folder} is not as it was written: {', '.join(wrong[:5])} was changed, added or taken away; export it "
            "again."
        )
    licence = (metadata_load(folder / "README.md") or {}).get("license")
    if licence is not None and licence not in HUB:
        raise InputError(f"The Hub does not know the licence “{licence}” that {folder / 'README.md'} names.")
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


@contextmanager
def _told(to: str) -> Iterator[None]:
    """What goes wrong with the Hub as one sentence."""
    try:
        yield
    except LocalTokenNotFoundError:
        raise InputError(
            "You are not logged in to the Hub: run “hf auth login” first, with a token that may write."
        ) from None
    except HFValidationError as error:
        raise InputError(f"“{to}” is no repository: {first_line(error)}") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status == 401:
            raise InputError(
                "The Hub does not know your login: run “hf auth login” again, with a token that may write."
            ) from None
        if status in (403, 404):
            raise InputError(
                f"Your login may not write to {to}: name a repository of yours, or use a token with that right."
            ) from None
        raise InputError(f"The Hub refused it (status {status}: {first_line(error)}): try again later.") from None
    except Exception as error:  # every way in which a network fails: refused, timed out, offline, no such host, a proxy
        raise InputError(f"The Hub cannot be reached ({first_line(error)}): try again when it can.") from None
