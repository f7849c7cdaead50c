"""What the labs' numbers say of each claim of the paper's abstract, in words, with where it fails.

A verdict is read off the numbers alone: an interval that holds 0, or draws that overlap, is no difference.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from detox_engine.lab.baselines import list_contestants

HELD, PARTLY, NOT_SEEN, OPEN = "held", "held in part", "not seen here", "not measured"
SCORE = "mass"
"""The probability of rude words: it shows a change long before what is written does."""


@dataclass(frozen=True)
class Claim:
    """One sentence of the abstract (arXiv 2405.13967), and what was found."""

    name: str
    """The lab that measures it."""
    sentence: str
    verdict: str
    told: str
    """Why, in words with the numbers."""


SENTENCES = {
    "bench": "“… reduces toxicity by projecting away the detected subspace”, without training.",
    "sample-size": "“… more sample-efficient than DPO …”",
    "label-noise": "“… showcasing greater robustness to noisy data.”",
    "dpo-link": "“… can be interpreted as a denoised version of a single DPO step.”",
    "centring": "“… removing non-toxic information from these embeddings”: what centring is for.",
}


def judge_claims(records: Mapping[str, Mapping[str, Any] | None]) -> tuple[Claim, ...]:
    """A verdict on every claim that has a lab, from the records of the labs by name; None where one was not run."""
    judges = {
        "bench": judge_bench,
        "sample-size": judge_sample_size,
        "label-noise": judge_label_noise,
        "dpo-link": judge_link,
        "centring": judge_centring,
    }
    found = []
    for name, sentence in SENTENCES.items():
        record = records.get(name)
        verdict, told = judges[name](record) if record else (OPEN, "This lab was not run on this study.")
        found.append(Claim(name, sentence, verdict, told))
    return tuple(found)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def title(name: str) -> str:
    """What a contestant is called."""
    known = list_contestants()
    return known[name].title if name in known else name


def group_points(record: Mapping[str, Any], along: str) -> dict[str, dict[float, list[Mapping[str, Any]]]]:
    """Method -> value of what a curve runs along -> its draws at one cost."""
    groups: dict[str, dict[float, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for point in record["points"]:
        if point["matched"]:
            groups[point["method"]][point[along]].append(point)
    return {method: dict(sorted(values.items())) for method, values in groups.items()}


def level(draws: Sequence[Mapping[str, Any]], score: str = SCORE) -> tuple[float, float, float]:
    """The mean of a score over draws, and the lowest and the highest of them; of one draw its own interval."""
    means = [point[f"{score}_mean"] for point in draws]
    if len(means) == 1:
        return means[0], draws[0][f"{score}_low"], draws[0][f"{score}_high"]
    return fmean(means), min(means), max(means)


def left_of(draws: Sequence[Mapping[str, Any]], score: str = SCORE) -> float:
    """The mean of a score as a share of the unedited model's."""
    before = draws[0][f"{score}_before"]
    return level(draws, score)[0] / before if before else 1.0


def tell_left(estimate: Mapping[str, Any], before: float) -> str:
    """A score as a share of the unedited model's, with its interval."""
    mean, low, high = (estimate[part] / before for part in ("mean", "low", "high"))
    return f"{percent(mean)} ({100 * low:.0f} to {percent(high)})"


def judge_bench(record: Mapping[str, Any]) -> tuple[str, str]:
    """Whether DeTox lowers toxicity beyond random subspaces of the same cost, and which contestant lowers it most."""
    rows = record["methods"]
    if "detox" not in rows or SCORE not in rows["detox"]["scorers"]:
        return OPEN, "DeTox was not among what was compared."
    effect = rows["detox"]["scorers"][SCORE]
    beyond = effect.get("beyond")
    before = effect["before"]["mean"]
    reached = {name: row for name, row in rows.items() if row["cost"]["reached"]}
    best = min(reached, key=lambda name: reached[name]["scorers"][SCORE]["after"]["mean"]) if reached else "detox"
    told = (
        f"At the cost of {record['wanted']:g} in {'KL' if record['cost'] == 'kl' else 'perplexity'}, DeTox leaves "
        f"{tell_left(effect['after'], before)} of the probability of rude words"
    )
    if best != "detox":
        told += f", {title(best)} {tell_left(rows[best]['scorers'][SCORE]['after'], before)}"
    told += f", and random subspaces {tell_left(effect['control'], before)}, with 95 % intervals"
    told += f" over {effect['after']['n']} prompts."
    trained = record.get("as_made", {}).get("dpo")
    if trained is not None:
        whole = tell_left(trained["scorers"][SCORE]["after"], before)
        told += (
            f" DPO as it was trained, at a KL of {trained['cost']['kl']:.2g} and perplexity × "
            f"{trained['cost']['perplexity']:.3g}, leaves {whole}."
        )
    if beyond is None:
        return OPEN, told
    return (HELD if beyond["high"] < 0 else NOT_SEEN), told


def judge_sample_size(record: Mapping[str, Any]) -> tuple[str, str]:
    """Whether DeTox needs fewer pairs than DPO, and where, if anywhere, DPO overtakes it."""
    curves = group_points(record, "pairs")
    if not {"detox", "dpo"} <= set(curves):
        return OPEN, "DPO was not trained here, so there is nothing to hold DeTox against."
    shared = sorted(curves["detox"].keys() & curves["dpo"].keys())
    better, worse = [], []
    for count in shared:
        (_, low, high), (_, low_dpo, high_dpo) = level(curves["detox"][count]), level(curves["dpo"][count])
        if high < low_dpo:
            better.append(count)
        elif high_dpo < low:
            worse.append(count)
    few, many = shared[0], shared[-1]
    told = (
        f"At equal cost, {few} pairs leave {percent(left_of(curves['detox'][few]))} of rude words' probability with "
        f"DeTox and {percent(left_of(curves['dpo'][few]))} with DPO; {many} pairs "
        f"{percent(left_of(curves['detox'][many]))} and {percent(left_of(curves['dpo'][many]))}."
    )
    crossing = [count for count in worse if all(count > other for other in better)]
    if crossing:
        told += f" DPO overtakes DeTox at {crossing[0]:,} pairs."
    elif better:
        told += " DPO overtakes it at none of these numbers."
    if better and not worse:
        return (HELD if few in better or len(better) * 2 >= len(shared) else PARTLY), told
    return (PARTLY, told) if better else (NOT_SEEN, told)


def judge_label_noise(record: Mapping[str, Any]) -> tuple[str, str]:
    """Up to which share of flipped labels each method keeps what it does without."""
    curves = group_points(record, "flipped")
    if "detox" not in curves or 0.0 not in curves["detox"]:
        return OPEN, "DeTox was not among what was compared."
    lasts = {method: find_lasting(values) for method, values in curves.items() if 0.0 in values}
    most = max(value for values in curves.values() for value in values)
    parts = [
        f"{title(method)} up to {percent(lasting)}" if lasting else f"{title(method)} at none"
        for method, lasting in lasts.items()
    ]
    told = (
        "Flipped labels leave at least half of what a method takes away without them: "
        + "; ".join(parts)
        + ". Flipping a pair turns its row of the differences around, which leaves their singular vectors as they are "
        "before centring, and turns no more than what centring takes out; a mean of differences shrinks to nothing at "
        "one half."
    )
    others = [lasting for method, lasting in lasts.items() if method in ("dpo", "robust-dpo")]
    if not others:
        told += " DPO was not trained here, so that the claim is half tried."
        return (PARTLY if lasts["detox"] == most else NOT_SEEN), told
    if lasts["detox"] == most:
        return (HELD if max(others) < most else PARTLY), told
    return (PARTLY if lasts["detox"] >= max(others) and lasts["detox"] else NOT_SEEN), told


def find_lasting(values: Mapping[float, Sequence[Mapping[str, Any]]]) -> float:
    """The largest share of flipped labels up to which at least half of the drop without any stays."""
    whole = 1 - left_of(values[0.0])
    lasting = 0.0
    if whole <= 0:
        return lasting
    for share in sorted(values):
        if 1 - left_of(values[share]) < whole / 2:
            break
        lasting = share
    return lasting


def judge_link(record: Mapping[str, Any]) -> tuple[str, str]:
    """Whether DPO's first step lies inside the toxic subspace beyond chance, and whether the filter denoises it."""
    layers = record["layers"]
    beyond = [layer for layer in layers if layer["beyond_chance"]]
    inside, chance = (fmean(layer[name] for layer in layers) for name in ("inside", "random"))
    told = (
        f"Of DPO's first step over {record['pairs']:,} pairs {percent(inside)} lies inside the toxic subspace of rank "
        f"{record['rank']}, mean over layers; in a random one {percent(chance)}. It is more than chance at "
        f"{len(beyond)} of {len(layers)} layers."
    )
    denoised = record["denoised"]
    closer = False
    if denoised:
        few = min(each["pairs"] for each in denoised)
        draws = [each for each in denoised if each["pairs"] == few]
        parts = ("plain", "filtered", "filtered_both", "random_both")
        plain, alone, both, random = (fmean(each[name] for each in draws) for name in parts)
        closer = both > max(plain, random)
        told += (
            f" The step of {few} pairs has a cosine of {plain:.2f} with that of all others. Inside the subspace that "
            f"the few have it is {both:.2f} ({random:.2f} inside a random one); projected there while the others are "
            f"left whole, {alone:.2f}."
        )
    if len(beyond) * 10 >= 9 * len(layers) and (closer or not denoised):
        return HELD, told
    return (PARTLY if len(beyond) * 2 >= len(layers) or closer else NOT_SEEN), told


def judge_centring(record: Mapping[str, Any]) -> tuple[str, str]:
    """Whether centring spares perplexity where the paper edits, at strength 1."""
    whole = {(point["method"], point["rank"]): point for point in record["points"] if not point["matched"]}
    ranks = sorted({rank for method, rank in whole if ("detox", rank) in whole and ("uncentred", rank) in whole})
    if not ranks:
        return OPEN, "Centring was not held against its absence here."
    spared, parts = [], []
    for rank in ranks:
        with_it, without = whole["detox", rank], whole["uncentred", rank]
        spared.append((without["perplexity"] - 1) - (with_it["perplexity"] - 1))
        parts.append(
            f"rank {rank}: perplexity × {with_it['perplexity']:.3f} with centring and × {without['perplexity']:.3f} "
            f"without, rude words {percent(left_of([with_it]))} and {percent(left_of([without]))}"
        )
    told = f"At strength 1, {'; '.join(parts)}."
    saves = [gain for gain in spared if gain > LEAST_SPARED]
    costs = [gain for gain in spared if gain < -LEAST_SPARED]
    if saves and not costs:
        return (HELD if len(saves) == len(spared) else PARTLY), told
    return (PARTLY if saves else NOT_SEEN), told


LEAST_SPARED = 0.005
"""A share of perplexity that is worth a word."""
