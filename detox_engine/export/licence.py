"""The licence of a base model, as its own card or file says it, and what the Hub and its terms allow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import metadata_load

from detox_engine.errors import InputError

HUB = frozenset(
    """afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
    eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research
    intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit
    mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 open-mdw openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql
    unknown unlicense wtfpl zlib""".split()  # noqa: SIM905
)
"""The identifiers that the Hub takes in a card (huggingface.co/docs/hub/repositories-licenses)."""


@dataclass(frozen=True)
class Licence:
    """What a base model says of its licence."""

    id: str | None = None
    """As the Hub writes it; None where nothing is said, or nothing that the Hub knows."""
    name: str | None = None
    link: str | None = None
    """Of a licence that has no identifier, which the Hub calls `other`."""
    told: str = ""
    """What the base says, where the Hub does not know it."""

    @property
    def shown(self) -> str:
        """Its name for people; empty where nothing is said."""
        return self.name or (self.id if self.id not in (None, "other", "unknown") else "") or self.told

    @property
    def forbids_derivatives(self) -> bool:
        """Whether it is one of those of Creative Commons under which nothing that was changed may be passed on."""
        return "nd" in re.split("[^a-z]+", (self.id or self.told or self.name or "").lower())

    @property
    def warning(self) -> str:
        """What has to be known before an edit is passed on; empty where nothing speaks against it."""
        if self.forbids_derivatives:
            return (
                f"The base model's licence, {self.shown}, forbids derivatives: an edited model, or an adapter for it, "
                "may not be passed on without its owner's leave."
            )
        if self.told:
            return (
                f"The base model says that its licence is “{self.told[:80]}”, which the Hub does not know, so that the "
                "card names none: look it up, and say it with --licence."
            )
        if not self.shown:
            return "The base model's files do not name its licence: look it up, and say it with --licence."
        return ""


def find_licence(place: Path, said: str | None = None) -> Licence:
    """What the model in a folder or a GGUF file says its licence is, or what a person has `said` that it is.

    Raises:
        InputError: the Hub does not know what was said.
    """
    check_licence(said)
    if said is not None:
        return Licence(said)
    try:
        told = _read_gguf(place) if place.is_file() else _read_card(place / "README.md")
    except Exception:  # the card or the header is anybody's, and fails in as many ways as its format does
        return Licence()
    id, name, link = (str(part) if isinstance(part, str) and part.strip() else None for part in told)
    if id is None:
        return Licence()
    known = id.strip().lower()
    return Licence(known, name, link) if known in HUB else Licence(told=id.strip())


def check_licence(said: str | None) -> None:
    """Raise an InputError where a person says a licence that the Hub does not know."""
    if said is not None and said not in HUB:
        raise InputError(
            f"The Hub does not know the licence “{said[:80]}”: write it as the Hub does, such as apache-2.0, mit, "
            "gemma, llama3.2, or other."
        )


def _read_card(card: Path) -> tuple[Any, Any, Any]:
    if not card.is_file():
        return None, None, None
    data = metadata_load(card) or {}
    return data.get("license"), data.get("license_name"), data.get("license_link")


def _read_gguf(file: Path) -> tuple[Any, Any, Any]:
    import gguf

    fields = gguf.GGUFReader(file).fields
    keys = ("general.license", "general.license.name", "general.license.link")
    id, name, link = (fields[key].contents() if key in fields else None for key in keys)
    return id, name, link
