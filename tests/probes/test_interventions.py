"""Interventions against closed forms: a model whose last blocks add nothing, and one whose norm is the identity."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import entr, log_softmax, softmax

from doubtlens.analysis import dose_response
from doubtlens.extract import extract, load_checkpoint
from doubtlens.extract.selftest import SelfTestError
from doubtlens.probes import fit_probe, intervene, output_measures
from doubtlens.probes import interventions as subject
from doubtlens.probes.answer_tokens import answer_tokens

WIDTH, DEPTH, LAYER, DOSES = 32, 4, 1, (-3.0, -1.0, 0.0, 2.0)
OUTCOMES = ["total_entropy", "choice_entropy", "choice_probability", "choice_mass"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    """Sixteen questions of 2 to 4 options on four subjects, one without an answer."""
    draw, words = rng(7), ["river", "music", "old", "king", "which", "city", "name", "great"]
    records = []
    for number in range(16):
        count = 2 + number % 3
        records.append(
            {
                "id": f"q{number}",
                "question": " ".join(draw.choice(words, 3 + number % 4)) + "?",
                "options": [" ".join(draw.choice(words, 2)) + f" {option}" for option in range(count)],
                "answer": None if number == 5 else number % count,
                "responses": draw.integers(1, 30, count).astype(float).tolist(),
                "subject": f"s{number % 4}",
            }
        )
    frame = pd.DataFrame(records)
    frame.attrs["name"] = "made"
    return frame


def silenced_blocks(model: Any) -> None:
    """Blocks after `LAYER` add nothing, so the logits are those of head(norm(resid_post of LAYER))."""
    with torch.no_grad():
        for block in model.model.layers[LAYER + 1 :]:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()


def made(
    tiny: Any, tokenizer: Any, items: pd.DataFrame, path: Path, change: Callable[[Any], None], **settings: Any
) -> SimpleNamespace:
    model = copy.deepcopy(tiny("llama").model)
    change(model)
    checkpoint = load_checkpoint(model, tokenizer, name="planted")
    settings = {"chat": "never", "self_test": False, "progress": False, "prompt": "moore2025"} | settings
    return SimpleNamespace(checkpoint=checkpoint, run=extract(checkpoint, items, path, **settings), model=model)


@pytest.fixture(scope="module")
def planted(tiny: Any, tokenizer: Any, items: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return made(tiny, tokenizer, items, tmp_path_factory.mktemp("planted") / "run.h5", silenced_blocks)


def probe_of(run: Any, layer: int = LAYER, seed: int = 3, **attributes: Any) -> SimpleNamespace:
    direction = rng(seed).standard_normal(WIDTH)
    sd = float((run.residual(layer).astype(float) @ direction).std())
    found = {"direction": direction, "sd": sd, "layer": layer, "site": "resid_post", "position": "last"}
    return SimpleNamespace(**found | {"target": "planted", "scoring": None, "kind": "ridge"} | attributes)


def ask(given: Any, probes: Any, **settings: Any) -> pd.DataFrame:
    settings = {"doses": DOSES, "n_random": 3, "progress": False, "self_test": False, "rng": rng()} | settings
    return intervene(given.checkpoint, given.run, probes, **settings).table


def part(table: pd.DataFrame, mode: str, direction: str, draw: int | None = None, dose: float | None = None) -> Any:
    rows = table[(table["mode"] == mode) & (table["direction"] == direction)]
    rows = rows if draw is None else rows[rows["draw"] == draw]
    return rows if dose is None else rows[rows["dose"] == dose]


def closed_form(given: Any, stream: np.ndarray) -> pd.DataFrame:
    """Outcomes of final residual streams [N, d], in float64: head(norm(x)), labels read by hand."""
    x = stream.astype(np.float64)
    norm, head = given.model.model.norm, given.model.lm_head.weight.double().numpy()
    if isinstance(norm, torch.nn.Identity):
        normed = x
    else:
        scale = np.sqrt((x**2).mean(axis=1, keepdims=True) + norm.variance_epsilon)
        normed = x / scale * norm.weight.double().numpy()
    logits = normed @ head.T
    plan, counts = answer_tokens(given.checkpoint, given.run, caller="a test"), given.run.items["n_options"]
    rows = []
    for row, count in enumerate(counts):
        labels = log_softmax(logits[row])[plan.single[row]]
        answer = given.run.items["answer"].iloc[row]
        rows.append(
            {
                "total_entropy": entr(softmax(logits[row])).sum(),
                "choice_entropy": entr(softmax(labels)).sum(),
                "choice_entropy_normalized": entr(softmax(labels)).sum() / np.log(count),
                "choice_probability": np.exp(labels.max()),
                "choice_mass": np.exp(labels).sum(),
                "choice": int(labels.argmax()),
                "correct": np.nan if pd.isna(answer) else float(labels.argmax() == answer),
            }
        )
    return pd.DataFrame(rows)


def assert_outcomes(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    names = [*OUTCOMES, "choice_entropy_normalized"]
    np.testing.assert_allclose(found[names].to_numpy(), wanted[names].to_numpy(), atol=1e-4, rtol=0)
    np.testing.assert_array_equal(found[["choice", "correct"]].to_numpy(), wanted[["choice", "correct"]].to_numpy())


# The oracles.


@pytest.mark.bridge
@pytest.mark.parametrize("along", ["direction", "covariance"])
def test_the_dose_response_is_the_closed_form(planted: Any, along: str) -> None:
    """What follows the edited block is head(norm(x + k sd s)), for the probe and for random directions alike."""
    probe, draws = probe_of(planted.run), rng(4).standard_normal((3, WIDTH))
    result = intervene(
        planted.checkpoint, planted.run, probe, doses=DOSES, along=along, random=draws, progress=False, rng=rng()
    )
    assert result.info["self_test"].startswith("TransformerLens: largest relative error")
    assert result.info["path"] == "cached prompt"
    x = planted.run.residual(LAYER).astype(np.float64)
    w = probe.direction
    covariance = np.cov(x.T)
    step = w / (w @ w) if along == "direction" else covariance @ w / (w @ covariance @ w)
    assert_outcomes(part(result.table, "none", "none"), closed_form(planted, x))
    units = draws / np.linalg.norm(draws, axis=1, keepdims=True)
    for dose in (-3.0, -1.0, 2.0):
        moved = x + dose * probe.sd * step
        np.testing.assert_allclose(moved @ w, x @ w + dose * probe.sd)
        assert_outcomes(part(result.table, "add", "probe", dose=dose), closed_form(planted, moved))
        length = abs(dose) * probe.sd * np.linalg.norm(step)
        for draw, unit in enumerate(units):
            found = part(result.table, "add", "random", draw, dose)
            assert_outcomes(found, closed_form(planted, x + np.sign(dose) * length * unit))
    level = (x @ w).mean()
    removed = x - np.outer(x @ w - level, step)
    np.testing.assert_allclose(removed @ w, level)
    assert_outcomes(part(result.table, "remove", "probe"), closed_form(planted, removed))
    for draw, unit in enumerate(units):
        other = x - np.outer(x @ w - level, np.linalg.norm(step) * unit)
        np.testing.assert_allclose(np.linalg.norm(other - x, axis=1), np.linalg.norm(removed - x, axis=1))
        assert_outcomes(part(result.table, "remove", "random", draw), closed_form(planted, other))


def test_a_planted_readout_moves_one_label_by_a_stated_amount(
    tiny: Any, tokenizer: Any, items: pd.DataFrame, tmp_path: Path
) -> None:
    """With the identity for a norm, a step of k sd along u adds a k sd to the logit of one label and to nothing else.

    So p(label) / (1 - p(label)) grows by the factor exp(a k sd): the entropies follow from the unedited ones.
    """
    u = np.zeros(WIDTH)
    u[3] = 1.0
    gain = 0.4

    def plant(model: Any) -> None:
        silenced_blocks(model)
        model.model.norm = torch.nn.Identity()
        with torch.no_grad():
            model.lm_head.weight[:, 3] = 0.0
            model.lm_head.weight[token, 3] = gain

    token = tokenizer(" B", add_special_tokens=False)["input_ids"][0]
    given = made(tiny, tokenizer, items, tmp_path / "run.h5", plant)
    table = ask(given, u, layers=[LAYER], doses=(-2, -1, 1, 2), self_test="alone")
    sd = given.run.residual(LAYER)[:, 3].astype(float).std()
    scores = given.run.choice_scores("label_single")
    responses = dose_response(table, n_bootstrap=20, rng=rng())
    unedited = part(table, "none", "none")
    for dose in (-2, -1, 1, 2):
        shifted = scores.copy()
        shifted[:, 1] += gain * dose * sd
        # The whole vocabulary gains or loses what the label does.
        p = np.exp(scores[:, 1])
        rest = unedited["total_entropy"].to_numpy() - entr(p)
        mass = 1 - p + p * np.exp(gain * dose * sd)
        q = p * np.exp(gain * dose * sd) / mass
        total = rest / mass + (1 - p) * np.log(mass) / mass + entr(q)
        wanted = {
            "choice_entropy": [entr(softmax(row[np.isfinite(row)])).sum() for row in shifted],
            "total_entropy": total,
        }
        found = part(table, "add", "probe", dose=dose)
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name], values, atol=1e-4)
            rows = responses[(responses["figure"] == name) & (responses["direction"] == "probe")]
            change = rows.loc[rows["dose"] == dose, "change"].item()
            assert change == pytest.approx(np.mean(values) - unedited[name].mean(), abs=1e-4)
        np.testing.assert_array_equal(found["choice"], np.nanargmax(shifted, axis=1))


def test_what_the_head_does_not_read_changes_nothing(
    tiny: Any, tokenizer: Any, items: pd.DataFrame, tmp_path: Path
) -> None:
    u = rng(9).standard_normal(WIDTH)
    u /= np.linalg.norm(u)

    def blind(model: Any) -> None:
        silenced_blocks(model)
        model.model.norm = torch.nn.Identity()
        with torch.no_grad():
            weight = model.lm_head.weight.double()
            model.lm_head.weight.copy_(weight - (weight @ torch.as_tensor(u))[:, None] * torch.as_tensor(u))

    given = made(tiny, tokenizer, items, tmp_path / "run.h5", blind)
    table = ask(given, u, layers=[LAYER], doses=(-4, 4))
    unedited = part(table, "none", "none")[OUTCOMES].to_numpy()
    for mode, dose in (("add", -4.0), ("add", 4.0), ("remove", None)):
        np.testing.assert_allclose(part(table, mode, "probe", dose=dose)[OUTCOMES], unedited, atol=1e-5)
    assert np.abs(part(table, "add", "random", 0, 4.0)[OUTCOMES].to_numpy() - unedited).max() > 1e-2
    found = dose_response(table, rng=rng())
    probe = found[(found["direction"] == "probe") & (found["figure"] == "total_entropy")]
    assert (probe["p"] == 1).all()


def test_the_unedited_pass_is_the_run_itself(planted: Any) -> None:
    table = ask(planted, probe_of(planted.run), scoring="label_variants")
    known = output_measures(planted.run, scoring="label_variants")
    found = part(table, "none", "none").reset_index(drop=True)
    assert found["item"].tolist() == known["item"].tolist()
    names = [*OUTCOMES, "choice_entropy_normalized"]
    np.testing.assert_allclose(found[names], known[names], atol=1e-5)
    assert found["choice"].tolist() == known["choice"].tolist()
    assert set(found["scoring"]) == {"label_variants"}
    assert not found["changed"].any()
    changed = part(table, "add", "probe", dose=-3.0).reset_index(drop=True)
    assert changed["changed"].tolist() == (changed["choice"] != found["choice"]).tolist()
    assert changed["changed"].any()


# Other runs.


def test_rotations_are_edited_alike_and_averaged(
    tiny: Any, tokenizer: Any, items: pd.DataFrame, tmp_path: Path
) -> None:
    given = made(tiny, tokenizer, items, tmp_path / "run.h5", silenced_blocks, permutations="cyclic", option_order=5)
    table = ask(given, probe_of(given.run), items=["q3", "q8"])
    known = output_measures(given.run).set_index("item").loc[["q3", "q8"]]
    found = part(table, "none", "none").set_index("item")
    names = ["choice_entropy", "total_entropy"]
    np.testing.assert_allclose(found[names], known[names], atol=1e-5)
    assert "choice_probability" not in table
    # By hand: each rotation moved in closed form, its scores renormalised and averaged.
    probe, x = probe_of(given.run), given.run.residual(LAYER, per_row=True).astype(np.float64)
    rows = np.flatnonzero(given.run.rows["item"] == 8)
    moved = x[rows] + 2.0 * probe.sd * probe.direction / (probe.direction @ probe.direction)
    norm, head = given.model.model.norm, given.model.lm_head.weight.double().numpy()
    logits = moved / np.sqrt((moved**2).mean(1, keepdims=True) + norm.variance_epsilon) @ head.T
    plan = answer_tokens(given.checkpoint, given.run, caller="a test")
    scores = np.zeros((len(rows), 4))
    for place, row in enumerate(rows):
        scores[place, list(plan.orders[row])] = log_softmax(logits[place, plan.single[row]])
    mean = softmax(scores.mean(axis=0))
    found = part(table, "add", "probe", dose=2.0).set_index("item").loc["q8"]
    assert found["choice_entropy"] == pytest.approx(entr(mean).sum(), abs=1e-4)
    assert found["choice"] == mean.argmax()


def test_without_listed_options_there_is_total_entropy_alone(
    tiny: Any, tokenizer: Any, items: pd.DataFrame, tmp_path: Path
) -> None:
    given = made(tiny, tokenizer, items, tmp_path / "run.h5", silenced_blocks, prompt="open_two_shot")
    result = intervene(
        given.checkpoint,
        given.run,
        probe_of(given.run),
        n_random=20,
        items=5,
        progress=False,
        self_test=False,
        rng=rng(),
    )
    assert result.info["notes"] == [
        "the prompt lists no options: the only outcome is the total entropy of the next token"
    ]
    assert result.table["scoring"].isna().all()
    assert not {"choice", "choice_entropy", "correct", "changed"} & set(result.table)
    assert set(dose_response(result.table, n_bootstrap=20, rng=rng())["figure"]) == {"total_entropy"}
    with pytest.raises(ValueError, match=r"scoring parameter of intervene must be a label scoring. Got 'text_sum'"):
        ask(given, probe_of(given.run), scoring="text_sum")


def test_a_summary_of_logits_is_enough(tiny: Any, tokenizer: Any, items: pd.DataFrame, tmp_path: Path) -> None:
    given = made(tiny, tokenizer, items, tmp_path / "run.h5", silenced_blocks, logits="summary")
    result = intervene(
        given.checkpoint,
        given.run,
        probe_of(given.run),
        n_random=2,
        items=3,
        progress=False,
        self_test=False,
        rng=rng(),
    )
    assert 0 < result.info["baseline_error"] < 1e-5
    assert result.info["notes"] == ["2 random directions give no p-value below 0.333; take 20"]
    assert repr(result) == "Interventions(22 edits of 3 items, cached prompt)"


@pytest.mark.parametrize("family", ["gemma3", "falcon_h1"])
def test_other_families(family: str, tiny: Any, items: pd.DataFrame, tmp_path: Path) -> None:
    """Sliding windows, and a recurrent state; every position as well as the last."""
    checkpoint = tiny(family)
    run = extract(checkpoint, items.iloc[:4], tmp_path / "run.h5", chat="never", self_test=False, progress=False)
    probe = probe_of(run, layer=2)
    for where in ("last", "all"):
        settings: Any = {"where": where, "doses": (3,), "random": rng(1).standard_normal((2, WIDTH))}
        settings |= {"progress": False, "self_test": False}
        fast, slow = (intervene(checkpoint, run, probe, rng=rng(), reuse=reuse, **settings) for reuse in (True, False))
        assert fast.info["path"] != slow.info["path"] == "whole prompts: asked for"
        np.testing.assert_allclose(fast.table["total_entropy"], slow.table["total_entropy"], atol=1e-4)
        assert set(fast.table["where"]) == {where}


# Steps and random directions.


def test_random_directions_have_the_length_of_the_step_and_their_covariance(planted: Any) -> None:
    from doubtlens.probes.steering import steerings

    settings: Any = {
        "layers": None, "site": "resid_post", "along": "direction", "n_random": 400, "remove_to": "zero",
        "where": "last", "width": WIDTH, "n_layers": DEPTH,
    }  # fmt: skip
    probe, x = probe_of(planted.run), planted.run.residual(LAYER).astype(np.float64)
    for random in ("covariance", "isotropic"):
        (found,) = steerings(planted.run, probe, random=random, rng=rng(), **settings)
        assert found.random.shape == (400, WIDTH)
        np.testing.assert_allclose(np.linalg.norm(found.random, axis=1), np.linalg.norm(found.step))
        assert found.level == 0.0
        units = found.random / np.linalg.norm(found.random, axis=1, keepdims=True)
        spread = np.cov(units.T)
        if random == "covariance":
            # Sixteen items span fifteen dimensions, and no draw leaves them.
            inside = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:15]
            np.testing.assert_allclose(np.linalg.norm(units @ inside.T, axis=1), 1.0, atol=1e-9)
            first = np.linalg.svd(x - x.mean(axis=0))[2][0]
            assert first @ spread @ first == pytest.approx(np.linalg.eigvalsh(spread)[-1], rel=0.05)
        else:
            assert np.linalg.eigvalsh(spread)[-1] < 2 / WIDTH


def test_bare_directions_names_and_other_layers(planted: Any) -> None:
    directions = rng(2).standard_normal((2, WIDTH))
    table = ask(planted, {"one": directions[0], "two": directions[1]}, layers=[0, LAYER], items=2, mode="remove")
    assert table.groupby(["target", "layer"]).ngroups == 4
    assert set(table["mode"]) == {"none", "remove"}
    assert set(table["probe"]) == {"given"}
    probe = probe_of(planted.run)
    # A probe's own step, carried to another layer: the same vector.
    elsewhere = ask(planted, probe, layers=[LAYER + 1], items=["q2"], random="isotropic", mode="add")
    here = ask(planted, probe, items=["q2"], random="isotropic", mode="add")
    assert set(elsewhere["layer"]) == {LAYER + 1}
    # Silent blocks lie between the two layers.
    np.testing.assert_allclose(elsewhere["total_entropy"], here["total_entropy"], atol=1e-5)
    assert elsewhere["remove_to"].isna().all()


def test_a_fitted_probe_goes_straight_in(planted: Any) -> None:
    probes = [fit_probe(planted.run, target, layer=LAYER, n_bootstrap=20, missing="drop", rng=rng())
              for target in ("human_entropy_normalized", "correct")]  # fmt: skip
    table = ask(planted, probes, items=4)
    assert table[["target", "target_scoring", "probe"]].drop_duplicates().astype(object).where(
        lambda frame: frame.notna(), None
    ).values.tolist() == [["human_entropy_normalized", None, "ridge"], ["correct", "label_single", "ridge"]]
    assert list(table.columns[:18]) == [
        "model", "dataset", "prompt", "site", "position", "layer", "target", "target_scoring", "probe", "scoring",
        "where", "along", "random", "remove_to", "mode", "direction", "draw", "dose",
    ]  # fmt: skip


def test_removal_to_zero(planted: Any) -> None:
    probe, x = probe_of(planted.run), planted.run.residual(LAYER).astype(np.float64)
    unit = probe.direction / np.linalg.norm(probe.direction)
    table = ask(planted, probe, mode="remove", remove_to="zero")
    assert_outcomes(part(table, "remove", "probe"), closed_form(planted, x - np.outer(x @ unit, unit)))
    assert part(table, "remove", "probe")["dose"].isna().all()


# Which items.


def test_items_are_drawn_evenly_over_subjects_and_right_and_wrong(planted: Any) -> None:
    table = ask(planted, probe_of(planted.run), items=8, mode="remove", n_random=1)
    drawn = part(table, "none", "none")
    assert drawn["subject"].value_counts().to_dict() == {f"s{number}": 2 for number in range(4)}
    again = ask(planted, probe_of(planted.run), items=8, mode="remove", n_random=1)
    pd.testing.assert_frame_equal(table, again)
    other = ask(planted, probe_of(planted.run), items=8, mode="remove", n_random=1, rng=rng(1))
    assert set(other["item"]) != set(table["item"])


# Refusals.


def test_another_checkpoint_is_refused(planted: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = probe_of(planted.run)
    with pytest.raises(ValueError, match=r"was made with weights = .* Give intervene the checkpoint that the run"):
        intervene(tiny("llama"), planted.run, probe, rng=rng())
    with pytest.raises(ValueError, match=r"The checkpoint parameter of intervene must come from load_checkpoint"):
        intervene("llama", planted.run, probe, rng=rng())
    monkeypatch.setattr(subject, "require_checkpoint", lambda *given, **named: None)
    with pytest.raises(ValueError, match=r"logits that its checkpoint gives, .* for the unedited prompt of item 'q0'"):
        ask(SimpleNamespace(checkpoint=tiny("llama"), run=planted.run), probe)


def test_the_self_test_stops_before_the_rest(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from doubtlens.extract.edited_forward import EditedForward

    right = EditedForward._entries
    monkeypatch.setattr(
        EditedForward, "_entries", lambda *given: {key: hidden + 1 for key, hidden in right(*given).items()}
    )
    with pytest.raises(SelfTestError, match=r"differ from the reference, whole prompts, by"):
        ask(planted, probe_of(planted.run), self_test="alone")


def test_doses_that_overflow_name_the_item(planted: Any) -> None:
    with pytest.raises(ValueError, match=r"must hold a finite number") as failure:
        ask(planted, probe_of(planted.run), doses=(1e40,), items=["q4"])
    assert failure.value.__notes__ == ["after an edit, at item 'q4': are the doses too large?"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "ad"}, "mode parameter of intervene must name a known mode .* Got 'ad' instead"),
        ({"along": "gradient"}, "along parameter of intervene must name a known along .* Got 'gradient'"),
        ({"remove_to": "median"}, "remove_to parameter of intervene must name .*mean, zero"),
        ({"where": "first"}, "where parameter of intervene must name .*last, all"),
        ({"doses": []}, r"doses parameter of intervene must be finite numbers of standard deviations.* Got \[\]"),
        ({"doses": (0,)}, "at least one of them other than 0"),
        ({"doses": (1, np.nan)}, "doses parameter of intervene must be finite"),
        ({"doses": ("high",)}, "doses parameter of intervene must be finite"),
        ({"n_random": 0}, "n_random parameter of intervene must be an integer of at least 1, and 20"),
        ({"n_random": 2.5}, "n_random parameter of intervene .* Got 2.5"),
        ({"random": "normal"}, "random parameter of intervene must name a source, or hold directions"),
        ({"random": np.ones((3, 5))}, r"must hold directions of the width of the model, \[R, 32\]. Got shape \(3, 5\)"),
        ({"random": np.zeros((3, WIDTH))}, "random parameter of intervene must hold finite directions that are not 0"),
        ({"layers": [7]}, "layers parameter of intervene must name blocks of the model, 0 to 3. Got 7"),
        ({"scoring": "label"}, "scoring parameter of intervene must name a label scoring of the run"),
        ({"items": 0}, "items parameter of intervene must be ids, or a number from 1 to 16"),
        ({"items": 17}, "items parameter of intervene .* Got 17"),
        ({"items": ["q1", "Q2"]}, "Got 'Q2' instead. Did you mean 'q2'"),
        ({"items": []}, "must name at least one item"),
    ],
)
def test_bad_settings_are_refused(planted: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(planted, probe_of(planted.run), **settings)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"direction": np.ones(8)}, r"directions of shape \(32,\). Got \(8,\) instead"),
        ({"direction": np.full(WIDTH, np.nan)}, "must hold finite directions that are not 0. Got NaN or infinities"),
        ({"direction": np.zeros(WIDTH)}, "must hold finite directions that are not 0. Got only zeros"),
        ({"sd": 0.0}, "must read something that differs between items: .* Got 0.0 at layer 1"),
        ({"site": "mlp_out"}, "site parameter of intervene must name a place of the residual stream itself"),
        ({"position": "labels"}, "a probe of the position 'labels' instead; pass where='all'"),
        ({"site": "resid_pre"}, r"run parameter of intervene must hold resid_pre at layer 1, for remove_to='mean'"),
    ],
)
def test_bad_probes_are_refused(planted: Any, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(planted, probe_of(planted.run, **attributes))


def test_probes_that_cannot_be_told_apart_or_placed_are_refused(planted: Any) -> None:
    with pytest.raises(ValueError, match=r"must be given beside bare directions, which know no layer"):
        ask(planted, np.ones(WIDTH))
    with pytest.raises(ValueError, match=r"must differ in site.* Got \('resid_post', .* twice instead; name them"):
        ask(planted, [np.ones(WIDTH), np.ones(WIDTH)], layers=[0])
    with pytest.raises(ValueError, match=r"must hold at least one probe. Got none"):
        ask(planted, [])


def test_a_layer_that_the_run_lacks_is_edited_where_nothing_of_it_is_needed(
    tiny: Any, tokenizer: Any, items: pd.DataFrame, tmp_path: Path
) -> None:
    given = made(tiny, tokenizer, items, tmp_path / "run.h5", silenced_blocks, layers=[LAYER])
    probe = probe_of(given.run)
    assert len(ask(given, probe, layers=[2], mode="add", random="isotropic", items=2))
    for settings in ({"mode": "remove", "random": "isotropic"}, {"mode": "add"}):
        with pytest.raises(ValueError, match=r"must hold resid_post at layer 2, for .*; extract that too"):
            ask(given, probe, layers=[2], items=2, **settings)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device; the CPU twins above test the same code")
def test_a_gpu_gives_the_closed_form(tiny: Any, tokenizer: Any, items: pd.DataFrame, tmp_path: Path) -> None:
    given = made(tiny, tokenizer, items, tmp_path / "run.h5", lambda model: silenced_blocks(model.cuda()))
    probe, x = probe_of(given.run), given.run.residual(LAYER).astype(np.float64)
    table = ask(given, probe, self_test="alone")
    given.model.cpu()
    moved = x + 2.0 * probe.sd * probe.direction / (probe.direction @ probe.direction)
    assert_outcomes(part(table, "add", "probe", dose=2.0), closed_form(given, moved))
