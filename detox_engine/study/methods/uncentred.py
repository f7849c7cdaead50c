"""DeTox without its third step: the differences are decomposed as they are, with what frequent tokens share in them.

It is there to see what centring is for (arXiv 2405.13967, section 4.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from detox_engine.study.method import MethodKind
from detox_engine.study.methods.detox import fit_subspace, fit_subspace_of

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.study.moments import Moments
    from detox_engine.study.subspace import ToxicSubspace


def fit(toxic: Tensor, civil: Tensor, keep: int) -> ToxicSubspace:
    """As DeTox's from embeddings `[pairs, hidden]`, and not centred."""
    return fit_subspace(toxic, civil, keep, centred=False)


def fit_streamed(moments: Moments, keep: int) -> ToxicSubspace:
    """As `fit`, of all the pairs that `moments` counted, and equal to it to rounding."""
    return fit_subspace_of(moments, keep, centred=False)


METHOD = MethodKind(
    name="uncentred",
    title="DeTox, not centred",
    sentence="the same without taking out what frequent tokens share, to see what that is for",
    fit=fit,
    fit_streamed=fit_streamed,
    place=9,
)
