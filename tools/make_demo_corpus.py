"""Write the demo corpus: small scenes in plain English whose mood is hidden and has to be inferred.

python tools/make_demo_corpus.py --out corpus.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random

from demo_corpus.scenes import write_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=380_000)
    parser.add_argument("--seed", type=int, default=0)
    plan = parser.parse_args()
    random = Random(plan.seed)
    with plan.out.open("w", encoding="utf-8") as file:
        for _ in range(plan.scenes):
            scene = write_scene(random)
            file.write(json.dumps({"text": scene.text, "mood": scene.mood, "topic": scene.topic}) + "\n")


if __name__ == "__main__":
    main()
