"""Models and pairs in a few words for people."""

from pathlib import Path

from detox_engine.specs import BUNDLED, ModelSpec, PairSpec


def name_model(spec: ModelSpec) -> str:
    if spec.name == BUNDLED:
        return "the bundled model"
    return Path(spec.name).name if Path(spec.name).expanduser().is_dir() else spec.name


def name_pairs(spec: PairSpec) -> str:
    if spec.source == BUNDLED:
        return "the bundled pairs"
    return Path(spec.source).name if Path(spec.source).expanduser().is_file() else spec.source
