"""Train the bundled demo model from nothing: tokenizer, then a GPT-2 architecture model, on the demo corpus.

    python tools/make_demo_corpus.py --out corpus.jsonl
    python tools/train_demo_model.py --corpus corpus.jsonl --out assets/demo/model

An hour on four cores. The workers share every batch, which loses less to other work on the machine than threads do.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import distributed, multiprocessing
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|endoftext|>"
"""Closes every scene; also the begin, pad and unknown token, as in GPT-2."""


def read_scenes(corpus: Path) -> list[str]:
    with corpus.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def train_tokenizer(texts: list[str], vocab: int, context: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE like GPT-2's: every text encodes, frequent words are one token with their space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, unk_token=END,
        model_max_length=context, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def pack(texts: list[str], tokenizer: PreTrainedTokenizerFast, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scenes to rows `[rows, context]` of token ids and the count of real tokens in each.

    A row begins with the beginning of a scene, since that is how prompts begin, and is filled up with
    further scenes that fit.
    """
    encoded = []
    for start in range(0, len(texts), 10_000):
        chunk = tokenizer._tokenizer.encode_batch(texts[start : start + 10_000])
        encoded += [[*e.ids, tokenizer.eos_token_id] for e in chunk]
    rows: list[list[int]] = []
    open_rows: list[list[int]] = []
    for ids in encoded:
        ids = ids[:context]
        fitting = [row for row in open_rows if len(row) + len(ids) <= context]
        if fitting:
            max(fitting, key=len).extend(ids)
        else:
            if len(open_rows) == 24:
                fullest = max(range(24), key=lambda i: len(open_rows[i]))
                rows.append(open_rows.pop(fullest))
            open_rows.append(list(ids))
    rows += open_rows
    table = np.full((len(rows), context), tokenizer.eos_token_id, dtype=np.int64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return torch.from_numpy(table), torch.tensor([len(row) for row in rows])


WARM_UP = 100
"""Steps until the learning rate is at its height."""


def learning_rate(plan: argparse.Namespace, step: int, done: float) -> float:
    """Linear warm-up, then a cosine down to a twentieth; `done` is the share of the training that is over."""
    return plan.learning_rate * min(1.0, (step + 1) / WARM_UP) * (0.525 + 0.475 * math.cos(math.pi * done))


def average_over_workers(tensors: list[torch.Tensor], workers: int) -> None:
    if workers == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= workers
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def measure_loss(model: GPT2LMHeadModel, ids: torch.Tensor, sizes: torch.Tensor, bfloat16: bool) -> torch.Tensor:
    """Mean cross-entropy of the next token over the rows' real tokens."""
    labels = ids.masked_fill(torch.arange(ids.shape[1])[None] >= sizes[:, None], -100)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        hidden = model.transformer(input_ids=ids, attention_mask=None, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden)
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]).float(), labels[:, 1:].reshape(-1), ignore_index=-100
    )


def make_optimizer(model: GPT2LMHeadModel, plan: argparse.Namespace) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": plan.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() != 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.98), fused=True)


def train(
    worker: int, model: GPT2LMHeadModel, rows: torch.Tensor, sizes: torch.Tensor, plan: argparse.Namespace
) -> Iterator[list[dict]]:
    """AdamW on this worker's share of every batch; yields the history so far every 500th step and at the end."""
    optimizer = make_optimizer(model, plan)
    per_epoch = len(rows) // plan.batch
    generator = torch.Generator().manual_seed(plan.seed)
    history, started, step, done = [], time.time(), 0, torch.zeros(())
    model.train()
    while done < 1:
        if step % per_epoch == 0:
            order = torch.randperm(len(rows), generator=generator)
        chosen = order[(step % per_epoch) * plan.batch :][: plan.batch][worker :: plan.workers]
        loss = measure_loss(model, rows[chosen], sizes[chosen], plan.bfloat16)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan, step, float(done))
        step += 1
        seconds = time.time() - started
        done = torch.tensor(seconds / 60 / plan.minutes if plan.minutes else step / plan.steps)
        mean = loss.detach()
        # The clocks are averaged with the gradients, so that all workers stop at the same step.
        average_over_workers([*(p.grad for p in model.parameters()), done, mean], plan.workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append(float(mean))
        if step % 500 == 0 or done >= 1:
            yield history
            model.train()
        if worker == 0 and (step % 50 == 0 or done >= 1):
            recent = sum(history[-50:]) / len(history[-50:])
            left = seconds * (1 / float(done) - 1)
            print(f"step {step}  loss {recent:.4f}  {seconds:.0f} s, {left:.0f} s left", flush=True)


def save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, history: list[float], plan) -> None:
    """Write model and tokenizer, and how they came about; a run that goes on is not disturbed."""
    kept = copy.deepcopy(model).eval().to(torch.float16 if plan.half else torch.float32)
    kept.save_pretrained(plan.out)
    tokenizer.save_pretrained(plan.out)
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(plan).items()}
    means = [round(sum(part) / len(part), 4) for part in (history[i : i + 100] for i in range(0, len(history), 100))]
    record = {"settings": settings, "steps": len(history), "loss_by_100_steps": means}
    (plan.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocab", type=int, default=3072)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=160)
    parser.add_argument("--inner", type=int, default=960)
    parser.add_argument("--heads", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--attention-dropout", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=32, help="rows of the context's length in a step")
    parser.add_argument("--steps", type=int, default=4556)
    parser.add_argument("--minutes", type=float, default=0.0, help="stop by the clock instead")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--workers", type=int, default=4, help="processes that share every batch")
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--port", type=int, default=29510, help="where the workers meet")
    parser.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--half", action=argparse.BooleanOptionalAction, default=True, help="save in float16")
    return parser.parse_args(arguments)


def work(
    worker: int, tokenizer: PreTrainedTokenizerFast, rows: torch.Tensor, sizes: torch.Tensor, plan: argparse.Namespace
) -> None:
    """One worker: the same model and data as the others, its own share of every batch; the first one saves."""
    torch.set_num_threads(plan.threads)
    if plan.workers > 1:
        address = f"tcp://127.0.0.1:{plan.port}"
        distributed.init_process_group("gloo", init_method=address, rank=worker, world_size=plan.workers)
    torch.manual_seed(plan.seed)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=plan.context, n_embd=plan.hidden, n_layer=plan.layers,
        n_head=plan.heads, n_inner=plan.inner, activation_function="gelu_pytorch_tanh", resid_pdrop=plan.dropout,
        embd_pdrop=plan.dropout, attn_pdrop=plan.attention_dropout, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    if worker == 0:
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        print(f"{millions:.1f} million parameters, {len(rows)} rows, {int(sizes.sum())} tokens", flush=True)
    torch.manual_seed(plan.seed + worker)
    for history in train(worker, model, rows, sizes, plan):
        if worker == 0:
            save(model, tokenizer, history, plan)


def main(arguments: Sequence[str] | None = None) -> None:
    plan = parse(arguments)
    texts = read_scenes(plan.corpus)
    tokenizer = train_tokenizer(texts[:60_000], plan.vocab, plan.context)
    rows, sizes = pack(texts, tokenizer, plan.context)
    if plan.workers == 1:
        work(0, tokenizer, rows, sizes, plan)
    else:
        multiprocessing.spawn(work, (tokenizer, rows, sizes, plan), plan.workers)


if __name__ == "__main__":
    main()
