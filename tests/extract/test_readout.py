"""The readout against final norm and head computed by hand, family by family, and what it refuses."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from doubtlens.extract import load_checkpoint
from doubtlens.extract.readout import Readout, ReadoutError

WIDTH, DEPTH, VOCABULARY = 32, 4, 384
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def rms(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return weight * x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps)


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: Any, eps: float) -> torch.Tensor:
    x = x - x.mean(-1, keepdim=True)
    return weight * x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps) + (0 if bias is None else bias)


def by_hand(family: str, model: Any, rows: torch.Tensor) -> torch.Tensor:
    """Logits from rows in float64, written out after each family's paper or code."""
    weight = {name: tensor.double() for name, tensor in model.state_dict().items()}
    config, x, head = model.config, rows.double(), model.get_output_embeddings().weight.double()
    if family == "gpt_neox":
        norm = [weight[f"gpt_neox.final_layer_norm.{part}"] for part in ("weight", "bias")]
        return layer_norm(x, *norm, config.layer_norm_eps) @ head.T
    if family == "cohere":
        x = layer_norm(x, weight["model.norm.weight"], None, config.layer_norm_eps)
        return config.logit_scale * (x @ head.T)
    gain = weight["model.norm.weight"]
    x = rms(x, 1 + gain if family.startswith("gemma") else gain, config.rms_norm_eps)
    logits = x @ head.T
    if family == "gemma2":
        cap = config.final_logit_softcapping
        return cap * torch.tanh(logits / cap)
    return logits / config.logits_scaling if family == "granite" else logits


def stream(n: int = 7, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, WIDTH)) * 3 + 0.5).astype(np.float32)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "granite", "cohere", "gpt_neox"])
def test_any_rows_are_read_as_by_hand(tiny: Callable[..., Any], family: str) -> None:
    checkpoint = tiny(family)
    rows = stream()
    logits = Readout(checkpoint)(rows)
    assert logits.dtype == torch.float32
    expected = by_hand(family, checkpoint.model, torch.from_numpy(rows))
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), **TOLERANCE)


@pytest.mark.parametrize("family", ["gemma2", "granite", "cohere", "gpt_neox", "falcon_h1"])
def test_the_last_layer_gives_the_models_own_logits(tiny: Callable[..., Any], family: str) -> None:
    checkpoint = tiny(family)
    ids = torch.randint(3, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(0))
    blocks = {"gpt_neox": lambda model: model.gpt_neox.layers}.get(family, lambda model: model.model.layers)
    kept = []
    hook = blocks(checkpoint.model)[-1].register_forward_hook(
        lambda module, args, output: kept.append(output[0] if isinstance(output, tuple) else output)
    )
    with torch.inference_mode():
        own = checkpoint.model(input_ids=ids, use_cache=False).logits[:, -1]
    hook.remove()
    readout = Readout(checkpoint)
    np.testing.assert_allclose(readout(kept[0][:, -1]).numpy(), own.numpy(), **TOLERANCE)
    assert 0 <= readout.error < 1e-6


def test_a_bias_of_the_head_counts(tokenizer: Any) -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.PhiConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    torch.nn.init.normal_(model.lm_head.bias)
    rows = torch.from_numpy(stream())
    norm = model.model.final_layernorm
    x = layer_norm(rows.double(), norm.weight.double(), norm.bias.double(), config.layer_norm_eps)
    expected = x @ model.lm_head.weight.double().T + model.lm_head.bias.double()
    logits = Readout(load_checkpoint(model, tokenizer))(rows)
    np.testing.assert_allclose(logits.numpy(), expected.detach().numpy(), **TOLERANCE)


def test_rows_are_read_alike_alone_and_in_any_number(tiny: Callable[..., Any]) -> None:
    readout = Readout(tiny("gemma2"))
    rows = stream(11)
    whole = readout(rows)
    assert readout.rows_at_once == 2**23 // VOCABULARY
    readout.rows_at_once = 4
    np.testing.assert_allclose(readout(rows).numpy(), whole.numpy(), **TOLERANCE)
    np.testing.assert_allclose(readout(rows[5:6]).numpy(), whole[5:6].numpy(), **TOLERANCE)
    assert readout(rows[:0]).shape == (0, VOCABULARY)


def test_sixteen_bits_are_read_in_sixteen_bits(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny("granite", "bfloat16")
    rows = torch.from_numpy(stream()).bfloat16()
    readout = Readout(checkpoint)
    logits = readout(rows.float().numpy())
    assert logits.dtype == torch.float32
    np.testing.assert_array_equal(logits.numpy(), readout(rows).numpy())
    expected = by_hand("granite", checkpoint.model, rows).numpy()
    np.testing.assert_allclose(logits.numpy(), expected, rtol=0.05, atol=0.05 * np.abs(expected).max())
    assert not np.allclose(logits.numpy(), expected, rtol=1e-4)


def hooks_of(model: Any) -> list[list[Any]]:
    """transformers leaves hooks of its own once hidden states were asked for."""
    return [[*module._forward_hooks, *module._forward_pre_hooks] for module in model.modules()]


def test_the_model_is_left_as_it_was(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny("llama")
    hooks = hooks_of(checkpoint.model)
    ids = torch.arange(5, 15)[None]
    with torch.inference_mode():
        before = checkpoint.model(input_ids=ids).logits
    readout = Readout(checkpoint)
    readout(stream())
    with pytest.raises(ValueError, match=r"must have the shape \[n, 32\]"):
        readout(np.zeros((2, 5)))
    with torch.inference_mode():
        after = checkpoint.model(input_ids=ids).logits
    np.testing.assert_array_equal(before.numpy(), after.numpy())
    assert hooks_of(checkpoint.model) == hooks


def test_bad_rows_are_refused(tiny: Callable[..., Any]) -> None:
    readout = Readout(tiny("llama"))
    rows = stream()
    with pytest.raises(ValueError, match=r"\[n, 32\], the width of tiny-llama-float32. Got \(7, 31\) instead"):
        readout(rows[:, :31])
    with pytest.raises(ValueError, match=r"Got \(32,\) instead"):
        readout(rows[0])
    rows[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"must be finite. Got NaN or inf in row 3"):
        readout(rows)


def changed(tiny: Callable[..., Any], tokenizer: Any) -> Any:
    return load_checkpoint(copy.deepcopy(tiny("llama").model), tokenizer, name="changed")


def test_an_adapter_of_the_head_counts(tiny: Callable[..., Any], tokenizer: Any) -> None:
    checkpoint = changed(tiny, tokenizer)
    rows = torch.from_numpy(stream())
    plain = Readout(checkpoint)(rows)
    down, up = torch.full((WIDTH, 2), 0.1), torch.linspace(-1, 1, 2 * VOCABULARY).reshape(2, VOCABULARY)
    checkpoint.model.lm_head.register_forward_hook(lambda module, args, output: output + args[0] @ down @ up)
    norm = checkpoint.model.model.norm
    added = rms(rows, norm.weight, checkpoint.config.rms_norm_eps) @ down @ up
    np.testing.assert_allclose(Readout(checkpoint)(rows).numpy(), (plain + added).numpy(), **TOLERANCE)


def test_a_path_around_the_last_block_is_found_out(tiny: Callable[..., Any], tokenizer: Any) -> None:
    """The embedding is added again behind the blocks: what the last block leaves is not all there is."""
    checkpoint = changed(tiny, tokenizer)
    model = checkpoint.model.model
    embedded = []
    model.embed_tokens.register_forward_hook(lambda module, args, output: embedded.append(output))
    model.norm.register_forward_pre_hook(lambda module, args: (args[0] + embedded[-1],))
    with pytest.raises(ReadoutError, match=r"LlamaForCausalLM: .* relative error of 0.0001. Got .* no logit lens here"):
        Readout(checkpoint)


@pytest.mark.parametrize(
    ("make", "came"),
    [
        (lambda output: output[None], r"\(1, 1, 5, 32\)"),
        (lambda output: output[..., :16], r"\(1, 5, 16\)"),
        (lambda output: {"hidden": output}, "dict"),
    ],
)
def test_a_block_that_returns_something_else_is_refused(
    tiny: Callable[..., Any], tokenizer: Any, make: Any, came: str
) -> None:
    checkpoint = changed(tiny, tokenizer)
    checkpoint.model.model.layers[-1].register_forward_hook(lambda module, args, output: make(output))
    with pytest.raises(ReadoutError, match=rf"\[rows, tokens, 32\]. Got {came} instead"):
        Readout(checkpoint)


def test_a_last_block_that_runs_twice_is_refused(tiny: Callable[..., Any], tokenizer: Any) -> None:
    checkpoint = changed(tiny, tokenizer)
    layers = checkpoint.model.model.layers
    layers[0].register_forward_hook(lambda module, args, output: layers[-1](output, position_embeddings=places[-1]))
    places: list[Any] = []
    checkpoint.model.model.rotary_emb.register_forward_hook(lambda module, args, output: places.append(output))
    with pytest.raises(ReadoutError, match=r"must run its last block once .* Got 2 runs"):
        Readout(checkpoint)


@pytest.mark.gpu
def test_a_gpu_reads_as_a_cpu_does(tiny: Callable[..., Any], tokenizer: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    on_cpu = Readout(tiny("gemma2"))(stream())
    model = copy.deepcopy(tiny("gemma2").model).to("cuda")
    logits = Readout(load_checkpoint(model, tokenizer))(stream())
    assert logits.device.type == "cuda"
    np.testing.assert_allclose(logits.cpu().numpy(), on_cpu.numpy(), rtol=1e-4, atol=1e-4)
