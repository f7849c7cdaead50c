"""The published procedure's costs, rewritten plainly: what `method.md` lists as its faults of cost.

Everything is padded to the longest text of the whole data set, every pass runs the language-model head, all
hidden states of all tokens are kept and stacked, the last block is run a second time by hand, and each layer
is decomposed by two full SVDs. It follows the steps, not the code, of the authors' repository.
"""

import torch
from torch import Tensor

from detox_engine.data.columns import Pair
from detox_engine.model.anatomy import block_output
from detox_engine.model.load import OpenModel

BATCH = 25


@torch.no_grad()
def fit_as_published(model: OpenModel, pairs: tuple[Pair, ...], rank: int = 2) -> list[Tensor]:
    """Each layer's `[rank, hidden]` basis, at the published procedure's cost."""
    texts = [pair.toxic_text for pair in pairs] + [pair.civil_text for pair in pairs]
    encoded = model.tokenizer(texts, padding=True, return_tensors="pt")
    kept = []
    for start in range(0, len(texts), BATCH):
        ids, mask = (encoded[name][start : start + BATCH] for name in ("input_ids", "attention_mask"))
        output = model.network(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        last = block_output(model.anatomy.blocks[-1](output.hidden_states[-2]))
        kept.append(torch.stack([*output.hidden_states[1:-1], last]))
    states = torch.cat(kept, dim=1).mean(dim=2)
    toxic, civil = states[:, : len(pairs)], states[:, len(pairs) :]
    bases = []
    for layer in range(len(states)):
        mean = torch.linalg.svd(civil[layer], full_matrices=True).Vh[0]
        differences = toxic[layer] - civil[layer]
        differences = differences - torch.outer(differences @ mean, mean)
        torch.linalg.svd(differences, full_matrices=True)
        bases.append(torch.linalg.svd(differences, full_matrices=True).Vh[:rank])
    return bases
