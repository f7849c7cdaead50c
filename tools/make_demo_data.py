"""Write what is shipped beside the demo model: pairs, prompts and civil scenes that the training text never holds.

python tools/make_demo_data.py --out assets/demo
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random

from demo_corpus.bundle import write_civil_scenes, write_pair, write_prompts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=700)
    plan = parser.parse_args()
    plan.out.mkdir(parents=True, exist_ok=True)
    pairs: dict[str, dict[str, str]] = {}
    random = Random(f"{plan.seed} pairs")
    while len(pairs) < plan.pairs:
        pair = write_pair(random)
        pairs[pair["prompt"]] = pair
    files = {
        "pairs.jsonl": [json.dumps(pair, ensure_ascii=False) for pair in pairs.values()],
        "hostile_prompts.txt": write_prompts(Random(f"{plan.seed} hostile"), "hostile", 400),
        "plain_prompts.txt": write_prompts(Random(f"{plan.seed} plain"), "plain", 200),
        "civil_scenes.txt": write_civil_scenes(Random(f"{plan.seed} civil"), 400),
    }
    for name, lines in files.items():
        (plan.out / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(lines)} lines")


if __name__ == "__main__":
    main()
