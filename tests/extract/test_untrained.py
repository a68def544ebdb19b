"""Twins that were never trained: the same shapes, other weights, reproducible, and runs of their own."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from doubtlens.extract import extract, load_checkpoint
from doubtlens.extract.checkpoints import Checkpoint

FAMILIES = ("llama", "mistral", "gemma2", "gemma3", "qwen3", "granite", "cohere", "gpt_neox", "falcon_h1")


def shapes(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in checkpoint.model.state_dict().items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_twin_has_the_architecture_and_weights_of_its_own_seed(family: str, tiny: Callable[..., Any]) -> None:
    checkpoint = tiny(family)
    twin = checkpoint.untrained()
    assert type(twin.model) is type(checkpoint.model)
    assert shapes(twin) == shapes(checkpoint)
    assert (twin.config_hash, twin.tokenizer_hash) == (checkpoint.config_hash, checkpoint.tokenizer_hash)
    assert twin.model.config._attn_implementation == checkpoint.model.config._attn_implementation
    assert not twin.model.training
    assert not any(parameter.requires_grad for parameter in twin.model.parameters())
    prints = {other.fingerprint for other in (checkpoint, twin, checkpoint.untrained(1))}
    assert len(prints) == 3
    assert checkpoint.untrained(np.int64(0)).fingerprint == twin.fingerprint
    tied = checkpoint.model.config.tie_word_embeddings
    embeddings = twin.model.get_input_embeddings().weight, twin.model.get_output_embeddings().weight
    assert (embeddings[0] is embeddings[1]) == tied


def test_a_twin_is_drawn_as_the_configuration_says_in_the_dtype_of_the_checkpoint(tiny: Callable[..., Any]) -> None:
    model = copy.deepcopy(tiny("llama", "bfloat16").model)
    model.config.initializer_range = 0.5
    twin = load_checkpoint(model, tiny("llama").tokenizer, name="wide").untrained()
    assert twin.dtype_name == "bfloat16"
    assert float(twin.model.get_input_embeddings().weight.float().std()) == pytest.approx(0.5, rel=0.05)
    assert torch.equal(twin.model.model.norm.weight, torch.ones(32, dtype=torch.bfloat16))


def test_the_global_generator_is_neither_read_nor_moved(tiny: Callable[..., Any]) -> None:
    torch.manual_seed(5)
    first = tiny("llama").untrained(3).fingerprint
    drawn = torch.rand(4)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(4), drawn)
    assert tiny("llama").untrained(3).fingerprint == first


def test_a_twin_is_a_checkpoint_of_its_own(tiny: Callable[..., Any], tmp_path: Any) -> None:
    checkpoint = tiny("llama")
    twin = checkpoint.untrained(2)
    assert twin.name == "tiny-llama-float32-untrained"
    assert twin.id != checkpoint.id
    assert twin.id != checkpoint.untrained(3).id
    assert twin.revision is None
    assert twin.source == "random initialisation of the configuration, seed 2"
    assert twin.tokenizer is checkpoint.tokenizer
    settings: dict[str, Any] = {"chat": "never", "self_test": "alone", "progress": False}
    items = {"question": ["Which river is old?", "Which king?"], "options": [["this", "that"], ["a", "the", "no"]]}
    run = extract(twin, pd.DataFrame(items), tmp_path / "run.h5", **settings)
    assert (run.info["model"], run.info["weights"]) == (twin.name, twin.fingerprint)
    with pytest.raises(ValueError, match="was made with checkpoint = "):
        extract(checkpoint, pd.DataFrame(items), tmp_path / "run.h5", **settings)


def test_the_quantiser_of_a_dequantised_file_is_left_out(tiny: Callable[..., Any]) -> None:
    model = copy.deepcopy(tiny("llama").model)
    model.config.quantization_config = {"quant_method": "gguf"}
    twin = load_checkpoint(model, tiny("llama").tokenizer, name="dequantised").untrained()
    assert not hasattr(twin.model.config, "quantization_config")
    assert hasattr(model.config, "quantization_config")
    assert twin.fingerprint == tiny("llama").untrained().fingerprint


@pytest.mark.parametrize("seed", [-1, 1.5, True, "0"])
def test_seeds_are_whole_numbers(seed: Any, tiny: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=rf"must be a whole number of at least 0\. Got {seed!r} instead"):
        tiny("llama").untrained(seed)


def test_a_model_on_several_devices_is_refused_by_name(tiny: Callable[..., Any]) -> None:
    model = copy.deepcopy(tiny("llama").model)
    spread = Checkpoint(model, tiny("llama").tokenizer, "spread", "spread")
    model.lm_head.to("meta")
    with pytest.raises(ValueError, match=r"needs a model on one device\. spread is spread over 2"):
        spread.untrained()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device; the CPU twins above test the same code")
def test_a_twin_on_a_gpu_has_the_weights_of_the_one_on_the_cpu(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny("llama")
    moved = Checkpoint(copy.deepcopy(checkpoint.model).cuda(), checkpoint.tokenizer, "gpu", "gpu")
    before = torch.cuda.get_rng_state()
    twin = moved.untrained(4)
    assert twin.device.type == "cuda"
    assert twin.fingerprint == checkpoint.untrained(4).fingerprint
    assert torch.equal(torch.cuda.get_rng_state(), before)
