"""Train the bundled demo model from nothing: tokenizer, then a GPT-2 architecture model, on the demo corpus.

    python tools/make_demo_corpus.py --out corpus.jsonl
    python tools/train_demo_model.py --corpus corpus.jsonl --out assets/demo/model
"""

from __future__ import annotations

import argparse
import json
import math
import time
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


def learning_rate(plan: argparse.Namespace, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    warm_up = min(200, steps // 10 + 1)
    return plan.learning_rate * min(1.0, (step + 1) / warm_up) * (0.525 + 0.475 * math.cos(math.pi * step / steps))


def average_gradients(model: GPT2LMHeadModel, workers: int) -> None:
    if workers == 1:
        return
    gradients = [parameter.grad for parameter in model.parameters()]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= workers
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def measure_loss(model: GPT2LMHeadModel, ids: torch.Tensor, sizes: torch.Tensor, bfloat16: bool) -> torch.Tensor:
    """Mean cross-entropy of the next token over the rows' real tokens."""
    labels = ids.masked_fill(torch.arange(ids.shape[1])[None] >= sizes[:, None], -100)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        hidden = model.transformer(input_ids=ids, attention_mask=None, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden)
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]).float(), labels[:, 1:].reshape(-1), ignore_index=-100
    )


def train(
    worker: int, model: GPT2LMHeadModel, rows: torch.Tensor, sizes: torch.Tensor, plan: argparse.Namespace
) -> list[dict]:
    """AdamW on this worker's share of every batch; returns a line of progress for every hundredth step."""
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": plan.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() != 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.98), fused=True)
    per_epoch = len(rows) // plan.batch
    steps = max(1, int(per_epoch * plan.epochs))
    generator = torch.Generator().manual_seed(plan.seed)
    history, started, losses = [], time.time(), []
    model.train()
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(rows), generator=generator)
        chosen = order[(step % per_epoch) * plan.batch :][: plan.batch][worker :: plan.workers]
        loss = measure_loss(model, rows[chosen], sizes[chosen], plan.bfloat16)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(model, plan.workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan, step, steps)
        optimizer.step()
        losses.append(loss.item())
        if worker == 0 and ((step + 1) % 100 == 0 or step + 1 == steps):
            seconds, mean = time.time() - started, sum(losses) / len(losses)
            history.append({"step": step + 1, "loss": round(mean, 4), "seconds": round(seconds)})
            left = seconds / (step + 1) * (steps - step - 1)
            print(f"step {step + 1}/{steps}  loss {mean:.4f}  {seconds:.0f} s, {left:.0f} s left", flush=True)
            losses = []
    return history


def save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, history: list[dict], plan) -> None:
    model.eval().to(torch.float16 if plan.half else torch.float32)
    plan.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(plan.out)
    tokenizer.save_pretrained(plan.out)
    kept = {k: str(v) if isinstance(v, Path) else v for k, v in vars(plan).items()}
    (plan.out / "training.json").write_text(json.dumps({"plan": kept, "history": history}, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--inner", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--attention-dropout", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=64, help="rows of the context's length in a step")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--workers", type=int, default=1, help="processes that share every batch")
    parser.add_argument("--threads", type=int, default=0, help="of each worker; 0 takes all")
    parser.add_argument("--port", type=int, default=29510, help="where the workers meet")
    parser.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--half", action=argparse.BooleanOptionalAction, default=True, help="save in float16")
    return parser.parse_args()


def work(
    worker: int, tokenizer: PreTrainedTokenizerFast, rows: torch.Tensor, sizes: torch.Tensor, plan: argparse.Namespace
) -> None:
    """One worker: the same model and data as the others, its own share of every batch; the first one saves."""
    if plan.threads:
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
    history = train(worker, model, rows, sizes, plan)
    if worker == 0:
        save(model, tokenizer, history, plan)


def main() -> None:
    plan = parse()
    texts = read_scenes(plan.corpus)
    tokenizer = train_tokenizer(texts[:60_000], plan.vocab, plan.context)
    rows, sizes = pack(texts, tokenizer, plan.context)
    if plan.workers == 1:
        work(0, tokenizer, rows, sizes, plan)
    else:
        multiprocessing.spawn(work, (tokenizer, rows, sizes, plan), plan.workers)


if __name__ == "__main__":
    main()
