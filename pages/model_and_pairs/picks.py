"""The picks of Model & pairs: what is to be fitted next, whole or still to be completed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from detox_engine.plans.fit import FitPlan
from detox_engine.plans.option import option
from detox_engine.plans.sources import BUNDLED, SMOLLM2, ModelSpec, PairSpec, is_path
from detox_engine.study.methods import methods
from ui.session.picks import Picks, offered, part

if TYPE_CHECKING:
    from ui.session.view import View

MODELS = {
    "bundled": "Bundled",
    "smollm2": "SmolLM2-135M, a real model",
    "hub": "Hugging Face Hub",
    "folder": "Folder or GGUF file",
}
PAIRS = {"bundled": "Bundled", "upload": "Upload", "hub": "Hub data set"}


@dataclass(frozen=True)
class ChoicePicks(Picks):
    """A model, pairs and a plan to fit with; what is in use stays so until they are fitted."""

    in_links: ClassVar[bool] = False

    begun: bool = False
    """Whether it has been told what is in use, to go on from there."""
    model_from: Literal["bundled", "smollm2", "hub", "folder"] = option("bundled", "", words=MODELS)
    folder: str = option("", "")
    """The path of a folder or of a file."""
    model: ModelSpec = part(ModelSpec)
    """Its name is that of a model of the Hub; that of the bundled one stands for none yet."""
    pairs_from: Literal["bundled", "upload", "hub"] = option("bundled", "", words=PAIRS)
    file: str = ""
    """Where an upload is kept."""
    fit: FitPlan = part(FitPlan)
    """Its pairs are those of a Hub data set, likewise, its methods are there by their names alone."""
    method_options: Mapping[str, Any] = offered(methods)

    @staticmethod
    def of(view: View) -> ChoicePicks:
        """What is in use."""
        model, fit = view.model, view.fit
        name, source = model.name, fit.pairs.source
        at_hand = {BUNDLED: "bundled", SMOLLM2: "smollm2"}.get(name)
        folder = name if is_path(name) else ""
        file = source if is_path(source) else ""
        return ChoicePicks(
            begun=True,
            model_from=at_hand or ("folder" if folder else "hub"),
            folder=folder,
            model=replace(model, name=BUNDLED) if at_hand or folder else model,
            pairs_from="bundled" if source == BUNDLED else "upload" if file else "hub",
            file=file,
            # A link can name a method that is not here.
            fit=replace(
                fit,
                pairs=replace(fit.pairs, source=BUNDLED) if file else fit.pairs,
                methods=tuple(choice for choice in fit.methods if choice.name in methods()),
            ),
            method_options=view.method_options,
        )

    def chosen_model(self) -> ModelSpec | None:
        """None while its name is missing."""
        if self.model_from == "hub":
            return None if self.model.name == BUNDLED else self.model
        name = {"bundled": BUNDLED, "smollm2": SMOLLM2, "folder": _make_whole(self.folder)}[self.model_from]
        return replace(self.model, name=name, revision=None) if name else None

    def hub_pairs(self) -> PairSpec | None:
        """The data set of the Hub, its columns and how many are drawn left open; None while its name is missing."""
        pairs = self.fit.pairs
        if pairs.source == BUNDLED:
            return None
        return PairSpec(pairs.source, subset=pairs.subset, split=pairs.split, revision=pairs.revision)

    def plan(self, pairs: PairSpec) -> FitPlan:
        """The plan to fit those pairs with, as many as are to be drawn of them."""
        drawn = replace(pairs, limit=self.fit.pairs.limit, seed=self.fit.pairs.seed)
        return replace(self.fit, pairs=drawn).with_options(self.method_options)


def _make_whole(folder: str) -> str:
    """A path from the root, so that its looks tell it from an id on the Hub; nothing is looked up."""
    return str(Path.cwd() / folder) if folder and not folder.startswith("~") else folder
