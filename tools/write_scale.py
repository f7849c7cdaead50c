"""Write docs/scale.md: what a fit costs from 135 million to 70 billion parameters, by formulas that stand here.

    .venv/bin/python -m tools.write_scale

tests/test_scale.py holds the formulas against what a tiny model takes, and the page against this script.
"""

from dataclasses import dataclass
from pathlib import Path

from detox_engine.cluster.crew import ROUND
from detox_engine.study.fit import CHUNK, SAMPLE
from detox_engine.study.shards import MAPPED_FROM

FILE = Path(__file__).parents[1] / "docs" / "scale.md"
PAIRS = 1_000_000
TOKENS = 40
"""Of a text, on average; 700 bundled pairs have 57 by a tokenizer of 4,000 tokens."""
CHARACTERS = 400
"""Of a pair."""
PEAK, SHARE = 990e12, 0.4
"""Dense bfloat16 operations a second of one H100 SXM by its data sheet, and the share of them that is assumed."""
CPU = 1e12
"""Float64 operations a second of the processors of a machine, assumed: pairs are summed there."""
LINK = 3e9
"""Bytes a second between machines, assumed: 25 Gbit Ethernet."""
DEVICE = 80e9
"""Bytes of an H100."""
WORKERS = 8
FORMS = {"float32": 32, "bfloat16": 16, "8 bits": 8, "4 bits": 4}
"""Bits of a weight."""


@dataclass(frozen=True)
class Shape:
    """A model's sizes; `trunk` are the parameters of its blocks, without embeddings and head."""

    name: str
    layers: int
    hidden: int
    parameters: float
    trunk: float


SHAPES = (
    Shape("135M (SmolLM2)", 30, 576, 134.5e6, 106.2e6),
    Shape("1B (Llama 3.2)", 16, 2048, 1.236e9, 0.973e9),
    Shape("8B (Llama 3.1)", 32, 4096, 8.03e9, 6.98e9),
    Shape("13B (Llama 2)", 40, 5120, 13.02e9, 12.69e9),
    Shape("70B (Llama 3.1)", 80, 8192, 70.55e9, 68.45e9),
)


def count_pair_sums(hidden: int) -> int:
    """Bytes of a layer's moments of pairs: two Gram matrices, two sums, the loudest differences, the count."""
    return 2 * 8 * hidden**2 + 2 * 8 * hidden + 4 * (hidden // 2) * hidden + 8


def count_token_sums(hidden: int) -> int:
    """Bytes of a layer's moments of tokens: the products, the sums, the count; for methods with a covariance alone."""
    return 8 * hidden**2 + 8 * hidden + 8


def count_sample(layers: int, hidden: int, places: int = SAMPLE) -> int:
    """Bytes of the sample's embeddings, two sides in float32."""
    return 2 * 4 * layers * places * hidden


def count_work(trunk: float, tokens: int) -> float:
    """Operations of one pass of tokens through the trunk, but for attention's own products."""
    return 2 * trunk * tokens


def count_summing(layers: int, hidden: int, pairs: int) -> float:
    """Float64 operations of the Gram matrices of pairs."""
    return 2 * 2 * layers * hidden**2 * pairs


def count_travel(shape: Shape, workers: int, pairs: int = PAIRS) -> float:
    """Bytes of sums that workers send in all: each sends all layers once a round."""
    rounds = -(-pairs // (CHUNK * ROUND * workers))
    return rounds * workers * shape.layers * (count_pair_sums(shape.hidden) + count_token_sums(shape.hidden))


def show_bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def show_time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 5400 else f"{seconds / 3600:.2g} h"


def write_rows() -> list[str]:
    rows = [
        "| model | weights, bfloat16 | moments of pairs | and of tokens | sample | passes | work | one H100 | eight |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    tokens = 2 * TOKENS * PAIRS
    for shape in SHAPES:
        work = count_work(shape.trunk, tokens)
        summing = count_summing(shape.layers, shape.hidden, PAIRS) / CPU
        fits = 2 * shape.parameters < 0.9 * DEVICE
        one = show_time(work / (SHARE * PEAK) + summing) if fits else "does not fit"
        # A machine's processors are shared by its eight workers; a split model has one of its devices busy at a time.
        devices = WORKERS if fits else WORKERS / 2
        eight = show_time(work / (SHARE * PEAK * devices) + summing) + ("" if fits else ", in twos")
        cells = (
            shape.name,
            show_bytes(2 * shape.parameters),
            show_bytes(shape.layers * count_pair_sums(shape.hidden)),
            show_bytes(shape.layers * count_token_sums(shape.hidden)),
            show_bytes(count_sample(shape.layers, shape.hidden)),
            "1",
            f"{work / 1e15:,.0f} PFLOP",
            one,
            eight,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def write_forms() -> list[str]:
    """Memory of the weights of each model in each number format."""
    rows = [f"| model | {' | '.join(FORMS)} |", f"| --- |{' ---: |' * len(FORMS)}"]
    for shape in SHAPES:
        cells = (shape.name, *(show_bytes(shape.parameters * bits / 8) for bits in FORMS.values()))
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def write_scale() -> str:
    """All of the page."""
    big = SHAPES[-1]
    pair_sums, token_sums = count_pair_sums(big.hidden), count_token_sums(big.hidden)
    work = count_work(big.trunk, 2 * TOKENS * PAIRS)
    travel = count_travel(big, WORKERS)
    values = {
        "pairs": f"{PAIRS:,}",
        "length": TOKENS,
        "millions": f"{2 * TOKENS * PAIRS / 1e6:.0f}",
        "table": "\n".join(write_rows()),
        "forms": "\n".join(write_forms()),
        "sample": SAMPLE,
        "share": f"{SHARE:.0%}",
        "peak": f"{PEAK / 1e12:.0f}",
        "cpu": f"{CPU / 1e12:.0f}",
        "weights": show_bytes(2 * big.parameters),
        "sums": show_bytes(big.layers * (pair_sums + token_sums)),
        "lean": show_bytes(big.layers * pair_sums),
        "mapped": show_bytes(MAPPED_FROM),
        "layer": show_bytes(pair_sums + token_sums),
        "texts": show_bytes(PAIRS * CHARACTERS),
        "round": ROUND,
        "chunk": CHUNK,
        "rounds": -(-PAIRS // (CHUNK * ROUND * WORKERS)),
        "workers": WORKERS,
        "travel": show_bytes(travel),
        "sending": show_time(travel / LINK),
        "link": f"{LINK / 1e9:.0f}",
        "computing": show_time(work / (SHARE * PEAK * WORKERS / 2)),
        "summing": show_time(count_summing(big.layers, big.hidden, PAIRS) / CPU),
        "lost": f"{ROUND * CHUNK:,}",
    }
    return PAGE.format(**values, **MEASURED)


MEASURED = {
    "soak_pairs": "200,000",
    "soak_tokens": "2,400,000",
    "soak_seconds": 191,
    "driver_growth": "2.1",
    "driver": 532,
    "worker_growth": "0.4 and 0.5",
    "worker": 512,
    "bench": "`python -m benchmarks cluster`, two workers beside one on 128 pairs and a GPT-2: 1.02 times as long on\n"
    "  two idle cores (7.5 pairs a second): two workers on one machine gain nothing over one there.",
}
"""On two cores that others used too, on 30 November 2026."""


PAGE = """\
<!-- Written by tools/write_scale.py; change that, not this file. -->

# Scale

What a fit of {pairs} pairs costs, by formula. A text has {length} tokens, so that {millions} million tokens go through
the trunk, once. Memory is that of each worker, and once more of the process that adds up.

{table}

- **Weights**: 2 bytes a parameter.
- **Moments of pairs**, float64 of a layer of width h: 16 h² + 16 h + 8 bytes of sums, and 4 h ⌊h/2⌋ of the loudest
  differences. **Of tokens**, for methods with a covariance such as Fisher's: 8 h² + 8 h + 8. `--methods detox` does
  without.
- **Sample**: {sample} pairs × 2 sides × layers × h × 4 bytes, whatever the number of pairs.
- **Passes**: one of each text. Sinks are looked for in 16 texts before, and a suggestion measures some tens after.
- **Work**: 2 × parameters of the trunk × tokens; the head is not run.
- **Time**: work at {share} of the {peak} TFLOP/s that an H100's data sheet has for dense bfloat16, and then Gram
  matrices of pairs, 4 h² operations a pair and layer, in float64 at {cpu} TFLOP/s on the machine's processors, which
  all of its workers share. **Both rates are assumed.**

## A million pairs on 70 billion parameters

- **Memory**: {weights} of weights, so two H100 for each worker; sums of {sums} for each worker in its machine's memory,
  {lean} with `--methods detox`; and once more where they are added up. There they lie in a file that is mapped, from
  {mapped} on, in the temporary folder, so that disk can stand in for memory. No object is larger than a layer of one
  worker, {layer}.
- **Network**: texts are {texts}. Sums travel once a round of {round} shards of {chunk} pairs for each worker: {rounds}
  rounds of {workers} workers are {travel}, which take {sending} at {link} GB/s where every worker is on a machine of
  its own, through one link. No token's state and no embedding but the sample's is sent.
- **Time**: {computing} on four workers of two H100 each, of which one computes at a time, and {summing} for Gram
  matrices, which are then the larger part; workers on several machines share them. Two decompositions of 8192 × 8192
  for each layer and method come on top.
- **A worker that dies** costs what it did since its round began: {lost} pairs at most.

## Workers

```sh
detox fit --pairs pairs.jsonl --out my-study --cluster local --workers 2
detox evaluate my-study --cluster 10.0.0.1:6379
```

`local` starts Ray on this machine: it listens on 127.0.0.1 alone, with a token of its own, without its dashboard, and
tells nobody of its use. It ends with the command. On two machines, with the same version of DeTox Explorer, the same
model under the same name, and the same token on both:

```sh
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=...   # on both, and where detox runs: of “ray get-auth-token --generate”
export RAY_USAGE_STATS_ENABLED=0                # on both
ray start --head --node-ip-address 10.0.0.1 --port 6379 --include-dashboard false    # on the first
ray start --address 10.0.0.1:6379                                                    # on the second
```

**Whoever reaches a Ray runs code on its machines.** Without a token there is no authentication, and nothing that is
sent is encrypted unless Ray's TLS is set up: keep its ports in a private network of machines that you trust, never
on the internet.

Each worker loads the model. Pairs are read by the command, once and in their order, and handed out as shards of texts;
each worker sums up its own, and the sums are added in a tree, layer by layer. The sample is drawn where pairs are read,
so that it is the same whatever the number of workers. Settings of a sweep, and prompts and texts of an evaluation, are
shared likewise; the luck of a continuation belongs to its prompt. Suggestions, readings and exports are made by the
command's own process, which holds the model too.

## Models: how large, and in what form

**Memory of the weights** is parameters × bytes of the format, and nothing of an edit adds to it (rank 2 at every
layer of a 70B model is 80 × 2 × 8192 float32 numbers, 5 MB):

{forms}

`--dtype auto` is bfloat16 on CUDA and float32 on a CPU; pooling, moments and every projection are float32 or wider in
either case. The embeddings and norms of a quantised model stay in 16 bits, and scales take a few per cent more than
the table says. When a batch runs out of memory it is halved and run again, later ones stay as small, and a token of
the pass that failed is counted once. `edited_weights` (the proof of an edit) holds copies of the edited matrices: for
all MLPs of a Llama-like model about 2/9 of its weights. An edit in the pass and the export file by file hold none.

**Split models.** `--device-map auto` lets accelerate spread a folder of safetensors over all devices, then main
memory, then disk; `--device-map 0=70GiB,1=70GiB,cpu=100GiB` says what each may hold, and the rest is read from disk
at every pass. Hooks, directions and pooling follow the device of the states of their layer; what is outside a pass
(weights face, adapter, checkpoint, lenses, neurons) reads weights where they lie, and an edit of weights that lie on
disk is kept in main memory, so that the base's files stay as they are. One pass runs at a time, on a CPU too, since
weights come and go with it. A weight that is left on “meta” with nothing that brings it is refused by name. GGUF
files and adapters are not split, DPO trains on no split model, and gradients (the suggestion's slopes) hold the
weights of all layers until the pass backwards is done, so that they need the memory of the whole model. A pass over a
model on disk costs what reading it costs: 140 GB from a disk of 3 GB/s is 47 s a batch, whatever the batch, so large
batches pay.

**Mixtures of experts** (structure of Mixtral, Qwen-MoE, OLMoE, gpt-oss) cost memory by all experts and time by those
chosen. The forward face acts on their sum, so an edit costs what it costs in a dense model. In the weights each
expert is projected, as an adapter PEFT's `target_parameters` (0.21 or later) carries experts that lie in one tensor,
with a factor A for each expert: rank × inner × experts numbers a layer. A checkpoint that keeps its experts apart is
rewritten expert by expert. llama.cpp's adapter is refused; so are mixtures whose experts no one module sums
(GraniteMoeShared) and biases of experts in a list or beside shared ones. The link to DPO needs one matrix a layer.

**Quantised weights** (bitsandbytes, GPTQ, AWQ and what else transformers reads, where its package is installed) are
read, measured and edited in the pass; the adapter is exact on what the layer multiplies with, which is read off from
unit vectors. An edit of the weights is refused with these two ways out. GGUF is still dequantised while it is loaded.
gpt-oss's own four bits (MXFP4) are dequantised by transformers where no kernel is at hand; a checkpoint that keeps
them packed cannot be rewritten, take the adapter.

## What was measured, and what was not

- Two workers on two shared cores took {soak_pairs} generated pairs of {soak_tokens} tokens through a model of 3 layers
  and 32 dimensions in {soak_seconds} s (`python -m tools.soak_cluster`). Over the second half of the way the command's
  process held {driver_growth} MB more than over the first, of {driver} MB; the workers {worker_growth} MB more, of
  {worker} MB.
- {bench}
- The formulas of memory and of work are held against a tiny model by `tests/test_scale.py`: bytes are equal, operations
  within a tenth of what PyTorch counts.
- **Never run of models**: any of this on a GPU (the CUDA graph that a GPU writes continuations by has a double on the
  CPU in the tests, and a model that refuses it writes without), on several devices, or on a model above 0.2B
  parameters; real weights of a mixture; GPTQ, AWQ and FP8 files (a stand-in of their make is tested); bitsandbytes in
  4 bits (its CPU kernel refuses the tiny model; 8 bits were loaded and edited on a CPU); other programs than PEFT with
  an adapter of experts.
- **Never run of clusters**: Ray on two machines, a worker on a GPU, a model above 124 million parameters with
  workers. A worker has one GPU; one that holds a model split over several is not built, so that the row of 70B is on
  paper alone.
- Writing of continuations by vLLM is not offered: vLLM 0.33 asks for torch 2.14 and a transformers below 5.21, and this
  project stands on torch 2.13 and transformers 5.23.
"""


def main() -> None:
    FILE.write_text(write_scale(), encoding="utf-8")


if __name__ == "__main__":
    main()
