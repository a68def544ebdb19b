"""Tiny random models of the architecture families, and a tokenizer trained on the spot: no hub, no download."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable
from typing import Any

import pytest

WIDTH, DEPTH, VOCABULARY, CONTEXT, WINDOW = 32, 4, 384, 512, 24


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Byte-level BPE of 384 tokens, trained on the embedded questions, with a beginning-of-text token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from doubtlens.extract import load_items

    items = load_items("knowledge")
    texts = [*items["question"], *(option for options in items["options"] for option in options)]
    letters = "".join(f" {letter}\n{letter}. {letter}\n" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*texts, *[letters] * 400], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", name_or_path="tiny-tokenizer"
    )


def _configs() -> dict[str, Callable[[], Any]]:
    import transformers as t

    base = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": 2,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    grouped = base | {"num_key_value_heads": 2, "head_dim": 8}
    return {
        "llama": lambda: t.LlamaConfig(**grouped),
        "mistral": lambda: t.MistralConfig(**grouped, sliding_window=WINDOW),
        "gemma2": lambda: t.Gemma2Config(
            **grouped,
            sliding_window=WINDOW,
            final_logit_softcapping=5.0,
            attn_logit_softcapping=3.0,
            query_pre_attn_scalar=8,
        ),
        "gemma3": lambda: t.Gemma3TextConfig(**grouped, sliding_window=WINDOW, query_pre_attn_scalar=8),
        "qwen3": lambda: t.Qwen3Config(**grouped),
        "granite": lambda: t.GraniteConfig(
            **grouped,
            logits_scaling=4.0,
            embedding_multiplier=6.0,
            residual_multiplier=0.5,
            attention_multiplier=0.3,
        ),
        "cohere": lambda: t.CohereConfig(**{k: v for k, v in grouped.items() if k != "head_dim"}, logit_scale=0.25),
        "gpt_neox": lambda: t.GPTNeoXConfig(**base),
        "falcon_h1": lambda: t.FalconH1Config(
            **grouped, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, mamba_chunk_size=16
        ),
    }


FAMILIES = ("llama", "mistral", "gemma2", "gemma3", "qwen3", "granite", "cohere", "gpt_neox")


@pytest.fixture(scope="session")
def tiny(tokenizer: Any) -> Callable[..., Any]:
    """``tiny("mistral")`` is a random checkpoint of that family, made once per session."""
    import torch
    from transformers import AutoModelForCausalLM

    from doubtlens.extract import load_checkpoint

    made: dict[tuple[str, str], Any] = {}

    def make(family: str, dtype: str = "float32") -> Any:
        if (family, dtype) not in made:
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(_configs()[family]())
            # The usual initialisation is so small that every position looks alike; spread the weights.
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if parameter.ndim > 1:
                        parameter.normal_(0.0, 0.6 if "embed" in name else 0.25)
            made[family, dtype] = load_checkpoint(
                model.to(getattr(torch, dtype)), tokenizer, name=f"tiny-{family}-{dtype}"
            )
        return made[family, dtype]

    return make
