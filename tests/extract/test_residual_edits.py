"""Edits of the residual stream: their algebra, and the logits that follow, in every architecture family."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from doubtlens.extract import load_checkpoint
from doubtlens.extract.edited_forward import EditedForward, bridge_logits, check_edits
from doubtlens.extract.residual_edits import EDITED_SITES, ResidualEdits
from doubtlens.extract.selftest import SelfTestError

FAMILIES = ("llama", "mistral", "gemma2", "gemma3", "qwen3", "granite", "cohere", "gpt_neox", "falcon_h1")
PARALLEL = ("cohere", "gpt_neox")
WIDTH, DEPTH, VOCABULARY = 32, 4, 384
TOLERANCE = {"rtol": 2e-4, "atol": 2e-4}
SHARED = [7, 150, 33, 9, 201, 64, 18, 77, 5]


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    """Three prompts behind nine tokens that all share; two are longer than the sliding window."""
    rng = np.random.default_rng(1)
    return [SHARED + rng.integers(3, VOCABULARY, count).tolist() for count in (1, 26, 40)]


def some_edits(layer: int, site: str = "resid_post", seed: int = 0) -> ResidualEdits:
    """Nothing, two shifts, a projection, a removal to a level, and one along another vector."""
    vectors = np.random.default_rng(seed).standard_normal((5, WIDTH)) * 3
    return ResidualEdits.joined(
        [
            ResidualEdits.shifts(layer, np.vstack([np.zeros(WIDTH), vectors[:2]]), site=site),
            ResidualEdits.removals(layer, vectors[2:3], site=site),
            ResidualEdits.removals(layer, vectors[2:3], level=0.7, site=site),
            ResidualEdits.removals(layer, vectors[3:4], level=-2.0, along=vectors[4:] / 9, site=site),
        ]
    )


def logits_of(checkpoint: Any, prompts: Sequence[Sequence[int]], row: int, edits: ResidualEdits, **kind: Any) -> Any:
    (found,) = EditedForward(checkpoint, prompts, **kind).logits(row, [edits])
    return found


def loop(x: np.ndarray, edits: ResidualEdits, place: int) -> np.ndarray:
    """One edit of one vector, written out."""
    inner = sum(float(a) * float(b) for a, b in zip(x, edits.read[place], strict=True))
    return np.array(
        [x[i] + edits.shift[place, i] - (inner - edits.level[place]) * edits.write[place, i] for i in range(len(x))]
    )


# The algebra.


def test_edits_are_the_map_that_is_stated() -> None:
    edits = some_edits(0)
    x = torch.randn(1, 3, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = edits.apply(x)
    assert found.shape == (len(edits), 3, WIDTH)
    for place in range(len(edits)):
        for token in range(3):
            np.testing.assert_allclose(found[place, token], loop(x[0, token].numpy(), edits, place), atol=1e-12)
    at_last = edits.apply(x, "last")
    assert torch.equal(at_last[:, :-1], x[:, :-1].expand(len(edits), -1, -1))
    assert torch.equal(at_last[:, -1], found[:, -1])


def test_a_removal_leaves_the_level_and_nothing_else_moves() -> None:
    rng = np.random.default_rng(3)
    direction, x = rng.standard_normal(WIDTH) * 5, torch.as_tensor(rng.standard_normal((1, 40, WIDTH)))
    orthogonal = np.linalg.svd(direction[None])[2][1:]
    for level in (0.0, 1.5):
        edited = ResidualEdits.removals(0, direction[None], level=level).apply(x)[0].numpy()
        np.testing.assert_allclose(edited @ direction, level, atol=1e-12)
        np.testing.assert_allclose(edited @ orthogonal.T, x[0].numpy() @ orthogonal.T, atol=1e-12)


def test_a_zero_shift_keeps_every_bit() -> None:
    x = (torch.randn(1, 2, WIDTH, generator=torch.Generator().manual_seed(0)) * 1e3).bfloat16()
    assert torch.equal(ResidualEdits.shifts(0, np.zeros((1, WIDTH))).apply(x), x)


def test_joined_edits_can_be_taken_apart() -> None:
    edits = some_edits(2)
    part = edits.part([1, 5])
    assert (len(part), part.layer) == (2, 2)
    np.testing.assert_array_equal(part.write, edits.write[[1, 5]])
    np.testing.assert_array_equal(edits.part(slice(2, 4)).shift, edits.shift[2:4])


# The forward passes.


@pytest.mark.parametrize("where", ["last", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_reused_changes_nothing_but_rounding(
    family: str, where: str, tiny: Callable[..., Any], prompts: list[list[int]]
) -> None:
    checkpoint = tiny(family)
    sites = [site for site in EDITED_SITES if not (site == "resid_mid" and family in PARALLEL)]
    forward = EditedForward(checkpoint, prompts, where=where)
    groups = [some_edits(layer, site, seed=layer) for site in sites for layer in (0, 2, DEPTH - 1)]
    for row in (0, 2):
        plain = EditedForward(checkpoint, prompts, where=where, reuse=False).logits(row, groups)
        for group, found, wanted in zip(groups, forward.logits(row, groups), plain, strict=True):
            assert found.shape == (len(group), VOCABULARY)
            np.testing.assert_allclose(found, wanted, **TOLERANCE)
            assert (found[1:3] - found[0]).abs().amax(dim=1).min() > 1e-2


@pytest.mark.bridge
@pytest.mark.parametrize("family", FAMILIES)
def test_edits_equal_the_hooks_of_transformer_lens(
    family: str, tiny: Callable[..., Any], prompts: list[list[int]]
) -> None:
    checkpoint = tiny(family)
    for site, layer, where in (("resid_post", 1, "last"), ("resid_post", 3, "all"), ("resid_pre", 2, "last")):
        edits = some_edits(layer, site)
        found = logits_of(checkpoint, prompts, 1, edits, where=where)
        np.testing.assert_allclose(
            found, bridge_logits(checkpoint.bridge(), prompts[1], edits, where=where), **TOLERANCE
        )
    if family not in PARALLEL:
        edits = some_edits(2, "resid_mid")
        found = logits_of(checkpoint, prompts, 1, edits)
        np.testing.assert_allclose(found, bridge_logits(checkpoint.bridge(), prompts[1], edits), **TOLERANCE)


def test_a_shift_between_the_sublayers_is_a_shift_of_what_attention_adds(
    tiny: Callable[..., Any], prompts: list[list[int]]
) -> None:
    """The norm's input is not the stream itself, which the block adds again after its MLP."""
    checkpoint, vector = tiny("llama"), np.random.default_rng(0).standard_normal(WIDTH)
    found = logits_of(checkpoint, prompts, 1, ResidualEdits.shifts(1, vector[None], site="resid_mid"))

    def add(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[:, -1] += torch.as_tensor(vector, dtype=output.dtype)
        return output

    handle = checkpoint.model.model.layers[1].self_attn.o_proj.register_forward_hook(add)
    try:
        with torch.inference_mode():
            wanted = checkpoint.model(input_ids=torch.tensor([prompts[1]]), use_cache=False).logits[0, -1]
    finally:
        handle.remove()
    np.testing.assert_allclose(found[0], wanted, **TOLERANCE)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_checkpoint_that_is_a_bridge_is_edited_alike(
    family: str, tiny: Callable[..., Any], prompts: list[list[int]]
) -> None:
    checkpoint = tiny(family)
    wrapped = load_checkpoint(checkpoint.bridge())
    edits = some_edits(2)
    before = bridge_logits(checkpoint.bridge(), prompts[1], edits)
    np.testing.assert_allclose(
        logits_of(wrapped, prompts, 2, edits), logits_of(checkpoint, prompts, 2, edits), **TOLERANCE
    )
    assert torch.equal(bridge_logits(checkpoint.bridge(), prompts[1], edits), before)


def test_the_model_is_left_as_it_was(tiny: Callable[..., Any], prompts: list[list[int]]) -> None:
    checkpoint = tiny("qwen3")
    blocks = checkpoint.model.model.layers
    # transformers leaves hooks of its own once hidden states were asked for.
    hooks = [[*module._forward_hooks, *module._forward_pre_hooks] for module in checkpoint.model.modules()]
    broken = ResidualEdits.shifts(1, np.full((1, WIDTH), 1.0))
    forward = EditedForward(checkpoint, prompts)

    def fail(*args: Any) -> None:
        raise RuntimeError("stop here")

    handle = blocks[2].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="stop here"):
        list(forward.logits(1, [broken]))
    handle.remove()
    list(forward.logits(1, [broken, some_edits(2, "resid_mid"), some_edits(0, "resid_pre")]))
    for block in blocks:
        assert "forward" not in vars(block)
    after = [[*module._forward_hooks, *module._forward_pre_hooks] for module in checkpoint.model.modules()]
    assert after == hooks


def test_batches_and_rows_do_not_matter(tiny: Callable[..., Any], prompts: list[list[int]]) -> None:
    checkpoint, edits = tiny("mistral"), some_edits(1)
    whole = EditedForward(checkpoint, prompts)
    small = EditedForward(checkpoint, prompts)
    small._held = 2 * len(prompts[2])  # two edits at once
    alone = EditedForward(checkpoint, [prompts[2]])
    (wanted,) = whole.logits(2, [edits])
    for forward, row in ((small, 2), (alone, 0), (whole, 2)):
        (found,) = forward.logits(row, [edits])
        np.testing.assert_allclose(found, wanted, **TOLERANCE)


def test_memory_that_runs_out_halves_the_batch(
    tiny: Callable[..., Any], prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, edits = tiny("llama"), some_edits(1)
    wanted = logits_of(checkpoint, prompts, 1, edits)
    forward, run, sizes = EditedForward(checkpoint, prompts), EditedForward._run, []

    def scarce(self: EditedForward, ids: torch.Tensor, cache: Any, rows: int) -> torch.Tensor:
        sizes.append(rows)
        if rows > 2:
            raise torch.OutOfMemoryError("no room")
        return run(self, ids, cache, rows)

    monkeypatch.setattr(EditedForward, "_run", scarce)
    (found,) = forward.logits(1, [edits])
    np.testing.assert_allclose(found, wanted, **TOLERANCE)
    assert max(sizes) == len(edits)
    monkeypatch.setattr(EditedForward, "_run", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no room")))
    with pytest.raises(torch.OutOfMemoryError):
        list(forward.logits(1, [edits]))


def test_a_prompt_of_one_token(tiny: Callable[..., Any]) -> None:
    checkpoint, edits = tiny("llama"), some_edits(0)
    found = logits_of(checkpoint, [[5], [5, 6]], 0, edits)
    np.testing.assert_allclose(found, logits_of(checkpoint, [[5]], 0, edits, reuse=False), **TOLERANCE)


def test_the_path_says_what_is_reused(tiny: Callable[..., Any], prompts: list[list[int]]) -> None:
    paths = {
        "cached prompt": EditedForward(tiny("llama"), prompts),
        "whole prompts: every position is edited": EditedForward(tiny("llama"), prompts, where="all"),
        "whole prompts: asked for": EditedForward(tiny("llama"), prompts, reuse=False),
        "whole prompts: FalconH1ForCausalLM keeps a recurrent state": EditedForward(tiny("falcon_h1"), prompts),
    }
    for path, forward in paths.items():
        assert forward.path == path


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device; the CPU twins above test the same code")
@pytest.mark.parametrize("family", ["llama", "gemma3", "falcon_h1"])
def test_edits_on_a_gpu_equal_those_on_a_cpu(
    family: str, tiny: Callable[..., Any], prompts: list[list[int]], tokenizer: Any
) -> None:
    import copy

    checkpoint, edits = tiny(family), some_edits(2)
    there = load_checkpoint(copy.deepcopy(checkpoint.model).cuda(), tokenizer, name="there")
    for where in ("last", "all"):
        found = logits_of(there, prompts, 2, edits, where=where)
        np.testing.assert_allclose(
            found.cpu(), logits_of(checkpoint, prompts, 2, edits, where=where), rtol=2e-3, atol=2e-3
        )
    assert check_edits(EditedForward(there, prompts), 1, [edits], bridge=False).startswith("whole prompts")


# The self-check.


@pytest.mark.bridge
def test_the_check_says_with_what_it_compared(tiny: Callable[..., Any], prompts: list[list[int]]) -> None:
    forward = EditedForward(tiny("llama"), prompts)
    assert check_edits(forward, 1, [some_edits(1)]).startswith("TransformerLens: largest relative error ")
    assert check_edits(forward, 1, [some_edits(1)], bridge=False).startswith("whole prompts: largest relative error ")


@pytest.mark.parametrize("bridge", [True, False])
def test_the_check_stops_what_is_wrong(
    bridge: bool, tiny: Callable[..., Any], prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = EditedForward(tiny("llama"), prompts)
    right = EditedForward._entries
    monkeypatch.setattr(
        EditedForward,
        "_entries",
        lambda *given: {key: 1.01 * hidden + 0.1 for key, hidden in right(*given).items()},
    )
    with pytest.raises(
        SelfTestError, match=r"an edit of resid_post at layer 1 differ from the reference, .*reuse=False"
    ):
        check_edits(forward, 1, [some_edits(1)], bridge=bridge)


# Refusals.


def test_edits_that_cannot_be_made_are_refused(tiny: Callable[..., Any], prompts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"unknown site 'attn_out'.*Known: resid_pre, resid_mid, resid_post"):
        ResidualEdits.shifts(0, np.zeros((1, 4)), site="attn_out")
    with pytest.raises(ValueError, match=r"The shift parameter of ResidualEdits must be finite numbers, \[D, d\]"):
        ResidualEdits.shifts(0, np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match=r"for at least one edit. Got shape \(0, 4\)"):
        ResidualEdits.shifts(0, np.zeros((0, 4)))
    with pytest.raises(ValueError, match=r"The write parameter .* Got shape \(1, 3\) beside a shift of shape \(1, 4\)"):
        ResidualEdits.removals(0, np.ones((1, 4)), along=np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"The level parameter of ResidualEdits must be finite numbers, \[D\]"):
        ResidualEdits.removals(0, np.ones((1, 4)), level=np.inf)
    with pytest.raises(ValueError, match="must hold vectors of a length above 0"):
        ResidualEdits.removals(0, np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"takes edits of one site. Got \[\(0, 'resid_post'\), \(1, 'resid_post'\)\]"):
        ResidualEdits.joined([some_edits(0), some_edits(1)])
    checkpoint = tiny("llama")
    with pytest.raises(ValueError, match=r"unknown where 'first'.*Known: last, all"):
        EditedForward(checkpoint, prompts, where="first")
    forward = EditedForward(checkpoint, prompts)
    with pytest.raises(
        ValueError, match=r"The edits parameter .* must have the width of tiny-llama-float32, 32. Got 4"
    ):
        list(forward.logits(0, [ResidualEdits.shifts(0, np.ones((1, 4)))]))
    with pytest.raises(ValueError, match="unknown layer 4: tiny-llama-float32 has the layers 0 to 3"):
        list(forward.logits(0, [some_edits(4)]))
    with pytest.raises(ValueError, match="has no resid_mid"):
        list(EditedForward(tiny("cohere"), prompts).logits(0, [some_edits(0, "resid_mid")]))
