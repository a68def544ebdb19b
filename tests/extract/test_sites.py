"""What attention and MLP add to the residual stream: sums that must come out, and architectures without them."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from doubtlens.extract import load_checkpoint
from doubtlens.extract.bridge import SublayerOutput, sublayer_outputs
from doubtlens.extract.checkpoints import Checkpoint
from doubtlens.extract.selftest import run_alone, run_bridge
from doubtlens.extract.sites import SiteReader, find_blocks

FAMILIES = ("llama", "mistral", "gemma2", "gemma3", "qwen3", "granite", "cohere", "gpt_neox")
PARALLEL = ("cohere", "gpt_neox")
DEPTH = 4
IDS = [5 + 7 * place % 300 for place in range(40)]


def read(checkpoint: Checkpoint, sites: list[str]) -> dict[str, torch.Tensor]:
    """site -> [L, d] at the last of `IDS`."""
    reader = SiteReader(checkpoint, sites, range(checkpoint.n_layers))
    kept = run_alone(checkpoint, IDS, reader)[1]
    return {site: kept[f"residual/{site}"].double() for site in sites}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_adds_attention_and_mlp_to_what_enters_it(family: str, tiny: Callable[..., Any]) -> None:
    kept = read(tiny(family), ["resid_pre", "attn_out", "mlp_out", "resid_post"])
    total = kept["resid_pre"] + kept["attn_out"] + kept["mlp_out"]
    torch.testing.assert_close(total, kept["resid_post"], rtol=1e-5, atol=1e-5)
    for site in ("attn_out", "mlp_out"):  # each of them counts
        assert (kept[site].norm(dim=1) > 0.01 * kept["resid_post"].norm(dim=1)).all()
    if family not in PARALLEL:
        middle = read(tiny(family), ["resid_pre", "attn_out", "resid_mid"])
        torch.testing.assert_close(middle["resid_pre"] + middle["attn_out"], middle["resid_mid"], rtol=1e-5, atol=1e-5)


def test_the_sum_holds_to_the_bit_where_sixteen_bit_models_add_in_that_order(tiny: Callable[..., Any]) -> None:
    for family in ("llama", "granite", "gemma2"):
        reader = SiteReader(tiny(family, "bfloat16"), ["resid_pre", "attn_out", "resid_mid"], range(DEPTH))
        kept = run_alone(tiny(family, "bfloat16"), IDS, reader)[1]
        before, added = kept["residual/resid_pre"], kept["residual/attn_out"]
        assert added.dtype == torch.bfloat16
        assert torch.equal(before + added, kept["residual/resid_mid"])


def test_norms_behind_a_sublayer_and_multipliers_are_part_of_what_it_adds(tiny: Callable[..., Any]) -> None:
    assert sublayer_outputs(tiny("gemma2")) == {
        "attn_out": SublayerOutput("post_attention_layernorm"),
        "mlp_out": SublayerOutput("post_feedforward_layernorm"),
    }
    assert sublayer_outputs(tiny("granite")) == {
        "attn_out": SublayerOutput("self_attn", 0.5),
        "mlp_out": SublayerOutput("mlp", 0.5),
    }
    assert sublayer_outputs(tiny("gpt_neox")) == {
        "attn_out": SublayerOutput("attention"),
        "mlp_out": SublayerOutput("mlp"),
    }


@pytest.mark.bridge
def test_falcon_h1_has_the_hooks_of_its_attention_and_mlp_alone(tiny: Callable[..., Any]) -> None:
    checkpoint, sites = tiny("falcon_h1"), ["resid_pre", "attn_out", "mlp_out", "resid_post"]
    reader = SiteReader(checkpoint, sites, range(DEPTH))
    kept, hooked = run_alone(checkpoint, IDS, reader)[1], run_bridge(checkpoint.bridge(), IDS, reader)[1]
    for path, values in kept.items():
        torch.testing.assert_close(values, hooked[path], rtol=1e-3, atol=1e-3)
    total = kept["residual/resid_pre"] + kept["residual/attn_out"] + kept["residual/mlp_out"]
    assert not torch.allclose(total, kept["residual/resid_post"], atol=1e-2)  # a Mamba branch is added as well


def test_architectures_without_the_sum_are_refused_by_name(tokenizer: Any, tiny: Callable[..., Any]) -> None:
    import transformers as t

    mamba = t.AutoModelForCausalLM.from_config(
        t.MambaConfig(vocab_size=384, hidden_size=16, num_hidden_layers=2, state_size=4)
    )
    for site in ("attn_out", "mlp_out"):
        with pytest.raises(ValueError, match=rf"MambaForCausalLM has no {site}: TransformerLens names no module"):
            SiteReader(load_checkpoint(mamba, tokenizer, name="ssm"), [site], [0])
    config = t.OPTConfig(
        vocab_size=384,
        hidden_size=16,
        ffn_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        word_embed_proj_dim=16,
    )
    checkpoint = load_checkpoint(t.AutoModelForCausalLM.from_config(config), tokenizer, name="opt")
    assert read(checkpoint, ["attn_out"])["attn_out"].shape == (2, 16)
    with pytest.raises(ValueError, match=r"mlp_out must be one .* Got \(40, 16\) instead; leave that site out"):
        read(checkpoint, ["mlp_out"])
    hybrid = Checkpoint(copy.deepcopy(tiny("llama").model), tokenizer, "hybrid", "hybrid")
    del find_blocks(hybrid.model, DEPTH)[2].self_attn
    SiteReader(hybrid, ["attn_out"], [0, 1, 3])
    with pytest.raises(ValueError, match="LlamaForCausalLM has no attn_out in block 2: there is no self_attn"):
        SiteReader(hybrid, ["attn_out"], range(DEPTH))


def test_an_architecture_that_transformer_lens_does_not_know_is_refused_by_name(tiny: Callable[..., Any]) -> None:
    model = copy.deepcopy(tiny("llama").model)
    model.__class__ = type("HomemadeForCausalLM", (type(model),), {})
    homemade = Checkpoint(model, tiny("llama").tokenizer, "homemade", "homemade")
    with pytest.raises(ValueError, match="TransformerLens has no adapter for HomemadeForCausalLM"):
        SiteReader(homemade, ["resid_post", "mlp_out"], [0])
    SiteReader(homemade, ["resid_post", "resid_pre"], [0])
