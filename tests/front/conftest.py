"""A tiny random Llama in a folder and thirty made-up items: a study in seconds."""

import json
import shutil

import numpy as np
import pytest
import yaml

SUBJECTS = ("rivers", "metals", "birds", "songs", "stars")


def made_items(n=30):
    rng = np.random.default_rng(0)
    for number in range(n):
        k = 3 + number % 3
        counts = rng.multinomial(40, rng.dirichlet(np.ones(k)))
        yield {
            "id": f"made-{number:02d}",
            "question": f"Which of the {SUBJECTS[number % 5]} is number {number}?",
            "options": [f"choice {letter} of {number}" for letter in ["one", "two", "three", "four", "five"][:k]],
            "answer": int(rng.integers(k)),
            "responses": counts.tolist(),
            "respondents": 40,
            "subject": SUBJECTS[number % 5],
        }


@pytest.fixture(scope="session")
def items_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("items") / "made.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in made_items()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory, tokenizer):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def finished(checkpoint_folder, items_file, tmp_path_factory):
    """The mapping of a study that has been run, and its result; tests work on copies of it."""
    settings = {
        "name": "tiny study",
        "output": str(tmp_path_factory.mktemp("finished") / "out"),
        "seed": 3,
        "checkpoints": [str(checkpoint_folder)],
        "questions": [
            {"items": str(items_file), "prompt": "two_shot", "chat": "never"},
            {"items": str(items_file), "prompt": "open_two_shot", "chat": "never"},
        ],
        "probes": {"n_splits": 3, "n_permutations": 3, "n_bootstrap": 10},
        "representation": {"enabled": False},
        "analysis": {
            "n_bootstrap": 10,
            "n_permutations": 20,
            "measures": ["choice_entropy_normalized", "top_p_size_0.9"],
        },
    }
    from doubtlens import run_study

    return settings, run_study(settings, progress=False)


@pytest.fixture(scope="session")
def tuned_folder(checkpoint_folder, tmp_path_factory):
    """The same Llama with its weights shaken, as if it had been fine-tuned."""
    import torch
    from transformers import AutoModelForCausalLM

    tuned = shutil.copytree(checkpoint_folder, tmp_path_factory.mktemp("tuned") / "tiny-it")
    model = AutoModelForCausalLM.from_pretrained(checkpoint_folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights += 0.3 * weights.std() * torch.randn_like(weights)
    model.save_pretrained(tuned)
    return tuned


@pytest.fixture(scope="session")
def represented(finished, checkpoint_folder, tuned_folder, tmp_path_factory):
    """The mapping of a study that asks all it can of the probes, for a pair of checkpoints, and its result."""
    from doubtlens import run_study

    mapping, _ = finished
    settings = {
        **mapping,
        "output": str(tmp_path_factory.mktemp("represented") / "out"),
        "checkpoints": [str(checkpoint_folder), str(tuned_folder)],
        "questions": mapping["questions"][:1],
        "pairs": [{"base": "tiny", "instruct": "tiny-it"}],
        "representation": {"interventions": {"items": 3, "n_random": 2, "doses": [-1.0, 1.0], "layers": [1]}},
    }
    return settings, run_study(settings, progress=False)


@pytest.fixture
def settings(finished, tmp_path):
    """The finished study, copied to where a test may spoil it."""
    mapping, _ = finished
    output = tmp_path / "out"
    shutil.copytree(mapping["output"], output)
    return json.loads(json.dumps(mapping | {"output": str(output)}))


@pytest.fixture
def study_file(settings, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path
