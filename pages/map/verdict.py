"""What the map comes to, in words; no Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ui.words.verdicts import tell_probe
from ui.work.parting import AFTER, BEFORE

if TYPE_CHECKING:
    from detox_engine.forward.embedded_pairs import Embeddings
    from detox_engine.study.study import Study
    from ui.work.parting import Probed


def tell_texts(
    study: Study, layer: int, states: Mapping[str, Embeddings], probes: Mapping[str, Sequence[Probed]] | None
) -> str:
    """How well the sides part at a layer: to a probe of all dimensions, and along the first direction alone."""
    along = _tell_along(study, layer, states)
    if probes is None:
        return f"{along} How well a linear probe tells them is being measured."
    if not probes:
        return f"{along} A probe needs 10 pairs or more."
    after = probes[AFTER][layer].accuracy if AFTER in probes else None
    return f"{tell_probe(layer, probes[BEFORE][layer].accuracy, after)} {along}"


def _tell_along(study: Study, layer: int, states: Mapping[str, Embeddings]) -> str:
    """Of how many texts the first direction alone tells the side, before the edit and after it."""
    counts = {name: count_right(study, layer, states[name]) for name in (BEFORE, AFTER) if name in states}
    total = 2 * len(study.pairs)
    words = f"Along its first direction alone {counts[BEFORE]:,} of {total:,} texts lie on their side of the middle"
    if AFTER in counts:
        words += f", after the edit {counts[AFTER]:,} ({total // 2:,} by chance)"
    return f"{words}; it was found from these very texts."


def count_right(study: Study, layer: int, found: Embeddings) -> int:
    """Texts on their own side of the middle between the sides' means, along the first direction of a layer."""
    from detox_engine.reading.probe import project_sides

    toxic, civil = project_sides(found.toxic[layer], found.civil[layer], study.subspaces[layer].basis[0])
    middle = (toxic.mean() + civil.mean()) / 2
    right = int((toxic > middle).sum() + (civil < middle).sum())
    return right if toxic.mean() >= civil.mean() else 2 * len(toxic) - right
