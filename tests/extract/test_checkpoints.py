"""Loading: every source, what identifies a checkpoint, and the message of each thing that can be wrong with one."""

import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from doubtlens.extract import load_checkpoint
from doubtlens.extract.bridge import silenced
from doubtlens.extract.checkpoints import PACKAGED_MODEL, Checkpoint, packaged_file
from doubtlens.extract.sites import SiteReader, find_blocks

DEPTH = 4
checkpoints = sys.modules[Checkpoint.__module__]


@pytest.fixture(scope="module")
def saved(tiny: Callable[..., Any], tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("saved") / "tiny-llama"
    with silenced():
        tiny("llama").model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of `saved` that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What would have been asked of transformers, instead of asking."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def note(location: str, kwargs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        asked.append((location, kwargs))
        raise FileNotFoundError("stopped before loading")

    monkeypatch.setattr(checkpoints, "_from_pretrained", note)
    return asked


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_folder_comes_back_with_the_same_weights_and_tokenizer(saved: Path, tiny: Callable[..., Any]) -> None:
    original, again = tiny("llama"), load_checkpoint(saved)
    assert again.fingerprint == original.fingerprint
    assert again.id == str(saved)
    assert (again.name, again.revision, again.source) == ("tiny-llama", None, "local folder")
    assert (again.dtype_name, again.device.type) == ("float32", "cpu")
    assert (again.n_layers, again.d_model, again.vocab_size, again.context_length) == (DEPTH, 32, 384, 512)
    assert not again.model.training
    assert not any(parameter.requires_grad for parameter in again.model.parameters())
    assert again.tokenizer("Which river?")["input_ids"] == original.tokenizer("Which river?")["input_ids"]
    assert load_checkpoint(saved, name="mine").name == "mine"
    assert load_checkpoint(saved, dtype="bfloat16").dtype_name == "bfloat16"


def test_a_folder_may_be_written_relative_to_here_or_to_home(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved)
    assert load_checkpoint(".").name == "tiny-llama"
    monkeypatch.setenv("HOME", str(saved.parent))
    assert load_checkpoint("~/tiny-llama").name == "tiny-llama"


def test_the_fingerprint_sees_every_weight_and_nothing_else(saved: Path) -> None:
    checkpoint, other = load_checkpoint(saved), load_checkpoint(saved, name="another name")
    before = checkpoint.fingerprint
    assert other.fingerprint == before
    for parameter in checkpoint.model.parameters():
        last = parameter.view(-1)[-1]
        kept = last.clone()
        last += 1
        assert checkpoint.fingerprint != before  # edited in place, as an intervention would
        last.copy_(kept)
        assert checkpoint.fingerprint == before
    assert load_checkpoint(saved, dtype="float16").fingerprint != before


def test_the_configuration_counts_where_it_acts_on_the_numbers(saved: Path) -> None:
    before = load_checkpoint(saved).config_hash
    for setting, value, counts in (
        ("rms_norm_eps", 0.5, True),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 77.0}, True),
        ("use_cache", False, False),
        ("_name_or_path", "elsewhere", False),
    ):
        changed = load_checkpoint(saved)
        setattr(changed.model.config, setting, value)
        assert (changed.config_hash != before) == counts, setting


def test_the_tokenizer_hash_sees_vocabulary_special_tokens_and_chat_template(tokenizer: Any, saved: Path) -> None:
    def hash_of(tokenizer: Any) -> str:
        return Checkpoint(None, tokenizer, "id", "name").tokenizer_hash

    before = hash_of(tokenizer)
    assert load_checkpoint(saved).tokenizer_hash == load_checkpoint(saved).tokenizer_hash
    talking, larger, unpadded, used = (copy.deepcopy(tokenizer) for _ in range(4))
    talking.chat_template = "{{ messages[0]['content'] }}"
    larger.add_tokens(["quokka"])
    unpadded.pad_token = "</s>"
    hashes = [before, *map(hash_of, (talking, larger, unpadded))]
    assert len(set(hashes)) == 4
    used(["one", "one and two"], padding=True, truncation=True, max_length=3)
    assert hash_of(used) == before  # how it was called last is no part of it


def test_the_packaged_model_is_found_by_its_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_hub: list[Any]
) -> None:
    package = tmp_path / "made_up_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    (package / "small.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(checkpoints, "PACKAGED_IN", "made_up_package")
    assert packaged_file() == package / "small.gguf"
    for revision in (None, "abc123"):
        with pytest.raises(FileNotFoundError, match="stopped before loading"):
            load_checkpoint(PACKAGED_MODEL, revision=revision)
    monkeypatch.setattr(checkpoints, "PACKAGED_IN", "no_such_package")
    assert packaged_file() is None
    with pytest.raises(FileNotFoundError, match="stopped before loading"):
        load_checkpoint(PACKAGED_MODEL)
    remote = {"trust_remote_code": False}
    assert no_hub == [
        (str(package), remote | {"gguf_file": "small.gguf"}),
        (PACKAGED_MODEL, remote | {"revision": "abc123"}),
        (PACKAGED_MODEL, remote),
    ]


def test_a_gguf_file_is_named_after_itself_and_a_hub_checkpoint_keeps_its_commit(
    tmp_path: Path, tiny: Callable[..., Any], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(tiny("llama").model)
    model.config._commit_hash = "0f1e2d"
    monkeypatch.setattr(checkpoints, "_from_pretrained", lambda *args, **kwargs: (model, tokenizer))
    (tmp_path / "large-q8.gguf").write_bytes(b"GGUF")
    gguf = load_checkpoint(tmp_path / "large-q8.gguf")
    assert (gguf.name, gguf.revision, gguf.source) == ("large-q8", None, "large-q8.gguf, dequantised")
    hub = load_checkpoint("someone/large", revision="main")
    assert (hub.name, hub.revision, hub.source) == ("large", "0f1e2d", "hub")


def test_bad_sources_are_refused_with_the_mend(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "noise.gguf").write_bytes(b"noise" * 50)
    (tmp_path / "notes.txt").write_text("no model")
    for source, kind, message in (
        (tmp_path / "none.gguf", FileNotFoundError, "There is no GGUF file .*none.gguf"),
        (tmp_path / "nowhere", FileNotFoundError, "There is no checkpoint folder or GGUF file .*nowhere"),
        (tmp_path / "notes.txt", FileNotFoundError, "There is no checkpoint folder or GGUF file .*notes.txt"),
        (tmp_path / "empty", FileNotFoundError, "empty is a folder without config.json"),
        (tmp_path / "noise.gguf", ValueError, r"'.*noise.gguf' could not be loaded: .*magic.* file is damaged"),
        (
            "nobody/nothing-at-all",
            FileNotFoundError,
            "nothing-at-all' could not be loaded: .* local folder or a",
        ),
        ("  ", ValueError, "must be a hub id or a path. Got an empty text"),
        (3, ValueError, "a loaded Hugging Face causal LM. Got int instead"),
    ):
        with pytest.raises(kind, match=message):
            load_checkpoint(source)


def test_bad_settings_are_refused_before_anything_is_loaded(
    saved: Path, no_hub: list[Any], monkeypatch: pytest.MonkeyPatch, tokenizer: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for settings, message in (
        ({"dtype": "bfloat"}, "unknown dtype 'bfloat'. Did you mean 'bfloat16'"),
        ({"device": "gpu"}, "device parameter of load_checkpoint must be .* Got 'gpu'"),
        ({"device": "cuda:1"}, "torch sees no CUDA device here"),
        ({"revision": "main"}, "revision parameter of load_checkpoint must be left out for .*: it is a local path"),
        ({"tokenizer": tokenizer}, "tokenizer parameter of load_checkpoint must be left out"),
    ):
        with pytest.raises(ValueError, match=message):
            load_checkpoint(saved, **settings)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="'cuda:1' was asked for, and torch sees 1 CUDA devices"):
        load_checkpoint(saved, device="cuda:1")
    assert no_hub == []


def test_pickled_weights_are_not_read(folder: Path) -> None:
    torch.save(tensors_of(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"weights of .* no file named model.safetensors .*\.bin"):
        load_checkpoint(folder)


def test_a_weight_that_is_missing_is_never_made_up(folder: Path) -> None:
    tensors = tensors_of(folder)
    del tensors["model.layers.2.mlp.up_proj.weight"]
    rewrite(folder, tensors)
    with silenced(), pytest.raises(ValueError, match=r"lacks 1 weights of LlamaForCausalLM, .*layers\.2\.mlp\.up_proj"):
        load_checkpoint(folder)


def test_damaged_folders_say_which_part_is_damaged(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"The weights of the checkpoint .* could not be loaded"):
        load_checkpoint(folder)
    (folder / "model.safetensors").write_bytes(whole)
    tensors = tensors_of(folder)
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:9].clone()
    rewrite(folder, tensors)
    with silenced(), pytest.raises(ValueError, match=r"The weights of the checkpoint .* could not be loaded"):
        load_checkpoint(folder)
    for file in folder.glob("token*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"The tokenizer of the checkpoint .* must hold config.json, the tokenizer's"):
        load_checkpoint(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llamoid"}))
    with pytest.raises(ValueError, match=r"The configuration of the checkpoint .* model type `llamoid`"):
        load_checkpoint(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(FileNotFoundError, match=r"config.json' is not a valid JSON file\. The folder must hold"):
        load_checkpoint(folder)


def test_models_that_do_not_read_from_left_to_right_are_refused_by_name(tmp_path: Path, tokenizer: Any) -> None:
    import transformers as t

    shape = {"vocab_size": 384, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    t5 = t.T5ForConditionalGeneration(
        t.T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    )
    bert = t.BertForMaskedLM(t.BertConfig(**shape, num_attention_heads=2))
    for model, kind in ((t5, r"\(t5\) is an encoder-decoder"), (bert, r"\(bert\) is an encoder for masked tokens")):
        with pytest.raises(ValueError, match=kind):
            load_checkpoint(model, tokenizer)
        where = tmp_path / type(model).__name__
        with silenced():
            model.save_pretrained(where)
            tokenizer.save_pretrained(where)
        with pytest.raises(ValueError, match=f"{where.name} {kind}"):
            load_checkpoint(where)


def test_a_loaded_model_is_taken_as_it_is(tiny: Callable[..., Any], tokenizer: Any) -> None:
    model = copy.deepcopy(tiny("llama").model).train().requires_grad_(True)
    checkpoint = load_checkpoint(model, tokenizer)
    assert checkpoint.model is model
    assert not model.training
    assert (checkpoint.name, checkpoint.revision) == ("LlamaForCausalLM", None)
    with pytest.raises(ValueError, match=r"needs tokenizer=\.\.\. beside a loaded model"):
        load_checkpoint(model)
    for setting, value in (("dtype", "bfloat16"), ("device", "cpu"), ("revision", "main")):
        with pytest.raises(ValueError, match=f"The {setting} parameter .* must be left out beside a loaded model"):
            load_checkpoint(model, tokenizer, **{setting: value})
    with pytest.raises(ValueError, match=r"must compute in float32, bfloat16, float16\. Got torch\.float64"):
        load_checkpoint(copy.deepcopy(model).double(), tokenizer)
    with pytest.raises(ValueError, match="must be in memory as a whole"):
        load_checkpoint(copy.deepcopy(model).to("meta"), tokenizer)


def test_blocks_are_found_beside_a_vision_tower_and_around_experts(tiny: Callable[..., Any]) -> None:
    import transformers as t

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = torch.nn.Linear(2, 2)
            pair = [torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)) for _ in range(DEPTH)]
            self.experts = torch.nn.ModuleList(pair)

    class Mixture(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = torch.nn.ModuleList([Block() for _ in range(DEPTH)])

    mixture = Mixture()
    assert find_blocks(mixture, DEPTH) is mixture.blocks
    with pytest.raises(ValueError, match="Mixture: the blocks were not found: 0 lists of 7 modules, not one"):
        find_blocks(mixture, 7)
    twice = torch.nn.ModuleDict({"left": Mixture(), "right": Mixture()})
    with pytest.raises(ValueError, match="the blocks were not found: 2 lists"):
        find_blocks(twice, DEPTH)

    text = tiny("gemma3").model.config.to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": DEPTH, "num_attention_heads": 2}
    seeing = t.AutoModelForCausalLM.from_config(
        t.Gemma3Config(text_config=text, vision_config=vision | {"image_size": 28, "patch_size": 14})
    )
    assert find_blocks(seeing, DEPTH) is seeing.model.language_model.layers


def test_sites_are_a_list_of_different_known_names(tiny: Callable[..., Any]) -> None:
    for sites, message in (
        ("resid_post", "must be a list of different names of resid_pre, .* Got 'resid_post'"),
        ([], r"must be a list of different names .* Got \[\]"),
        (["resid_pre", "resid_pre"], "must be a list of different names"),
        (["resid_psot"], "unknown site 'resid_psot'. Did you mean 'resid_post'"),
    ):
        with pytest.raises(ValueError, match=message):
            SiteReader(tiny("llama"), sites, [0])


def test_resid_mid_is_refused_where_blocks_normalise_after_each_sublayer(tokenizer: Any) -> None:
    import transformers as t

    config = t.OPTConfig(
        vocab_size=384,
        hidden_size=16,
        ffn_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        word_embed_proj_dim=16,
        do_layer_norm_before=False,
    )
    checkpoint = load_checkpoint(t.AutoModelForCausalLM.from_config(config), tokenizer, name="opt")
    with pytest.raises(ValueError, match="opt has no resid_mid: its blocks normalise after each sublayer"):
        SiteReader(checkpoint, ["resid_mid"], [0])
