"""DeTox as published: attention sinks are left in the means, as in the authors' arithmetic."""

from __future__ import annotations

from detox_engine.lab.baseline import BaselineKind, Made, Setup


def make(setup: Setup) -> Made:
    from detox_engine.edit.low_rank import LowRankEdit
    from detox_engine.forward.embed import embed_pairs
    from detox_engine.study.methods import fit_layer

    plan = setup.study.plan
    states = embed_pairs(setup.model, setup.pairs, plan.max_length, plan.pooling, progress=setup.progress, sinks=None)
    bases = {
        layer: fit_layer(states.toxic[layer], states.civil[layer], setup.edit.rank).basis for layer in setup.edit.layers
    }
    return Made(LowRankEdit(bases, sites=setup.edit.sites))


BASELINE = BaselineKind(
    name="as-published",
    title="DeTox as published",
    sentence="the paper's arithmetic, with attention sinks left in (--sinks keep)",
    make=make,
    finds_directions=True,
    learns=True,
    place=0,
)
