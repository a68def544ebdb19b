"""Logit statistics against a float64 loop, hand-solved cases and scipy; selection of the largest logits."""

import math
import tracemalloc

import h5py
import numpy as np
import pytest
import scipy.stats
import torch

from doubtlens.extract import statistics
from doubtlens.extract.statistics import largest_logits, logit_statistics

INF = float("inf")


def entropy_of(weights):
    total = math.fsum(weights)
    return -math.fsum(w / total * math.log(w / total) for w in weights if w > 0)


def loop_statistics(z, top_k=(5, 10, 25, 50, 100), top_p=(0.95, 0.9, 0.75, 0.5)):
    """The definitions, one row and one token at a time."""
    z = [float(value) for value in z]
    peak = max(z)
    weights = [math.exp(value - peak) for value in z]
    total = math.fsum(weights)
    p = [w / total for w in weights]
    # -ln p without going through an underflown p.
    surprisal = [math.log(total) + peak - value for value in z]
    expected = {
        "log_sum_exp": peak + math.log(total),
        "top_1_probability": max(p),
        "total_entropy": math.fsum(q * s for q, s in zip(p, surprisal, strict=True) if q > 0),
    }
    mean = expected["total_entropy"]
    expected["varentropy"] = math.fsum(q * (s - mean) ** 2 for q, s in zip(p, surprisal, strict=True) if q > 0)
    order = sorted(range(len(p)), key=lambda token: (-p[token], token))
    for k in top_k:
        if k <= len(p):
            expected[f"top_k_entropy_{k}"] = entropy_of([p[token] for token in order[:k]])
    for mass in top_p:
        inclusive, exclusive, before, fits = [], [], 0.0, True
        for token in order:
            if before < mass - 1e-9:
                inclusive.append(p[token])
            before += p[token]
            fits = fits and before <= mass
            if fits:
                exclusive.append(p[token])
        for name, kept in (("inclusive", inclusive), ("exclusive", exclusive)):
            expected[f"top_p_size_{mass:g}_{name}"] = len(kept)
            expected[f"top_p_entropy_{mass:g}_{name}"] = entropy_of(kept) if kept else math.nan
    return expected


def random_logits(scale, width, dtype=np.float32, rows=4):
    return (np.random.default_rng(width).standard_normal((rows, width)) * scale).astype(dtype)


def one_hot(width, others=-INF):
    row = np.full((1, width), others, dtype=np.float32)
    row[0, width // 3] = 2.5
    return row


def sparse(width):
    rows = random_logits(3, width)
    rows[:, ::3] = -INF
    rows[1, 5:] = -INF
    return rows


CASES = {
    "flat": random_logits(0.3, 3000),
    "ordinary": random_logits(2, 3000),
    "peaked": random_logits(8, 3000),
    "nearly certain": random_logits(40, 3000),
    "smaller than the head": random_logits(2, 300),
    "two tokens": random_logits(1, 2),
    "one token": np.array([[3.0], [-7.0]], dtype=np.float32),
    "float64": random_logits(2, 1500, np.float64),
    "float16": random_logits(2, 1500, np.float16),
    "far from zero": random_logits(2, 1500, np.float64) + 1e4,
    "ties": np.round(random_logits(2, 3000)),
    "ties at the head's end": np.repeat(random_logits(2, 40), 75, axis=1),
    "uniform": np.full((2, 2048), 1.25, dtype=np.float32),
    # Cumulated, 2,850 thousandths of a third end below 0.95 by rounding: the tolerance decides.
    "uniform of 3000": np.zeros((1, 3000), dtype=np.float32),
    "uniform of 20": np.zeros((1, 20), dtype=np.float32),
    "one-hot": one_hot(2000),
    "almost one-hot": one_hot(2000, -30.0),
    "-inf entries": sparse(3000),
    "-inf below the head": np.where(np.arange(3000) < 1500, random_logits(0.1, 3000), -INF),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_definitions_computed_in_a_loop(case):
    logits = CASES[case]
    found = logit_statistics(logits)
    for row, z in enumerate(logits):
        expected = loop_statistics(z)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].dtype == np.float64
            np.testing.assert_allclose(found[name][row], value, rtol=1e-9, atol=1e-12, err_msg=f"{name}, row {row}")


def test_cases_reach_both_the_head_and_the_full_sort():
    sizes = {case: logit_statistics(CASES[case])["top_p_size_0.95_inclusive"].max() for case in CASES}
    assert sizes["flat"] > statistics.HEAD > sizes["peaked"]
    assert sizes["-inf below the head"] > statistics.HEAD


def test_head_and_full_sort_agree(monkeypatch):
    logits = np.concatenate([CASES[case] for case in ("flat", "ordinary", "peaked", "ties")])
    wide = logit_statistics(logits)
    monkeypatch.setattr(statistics, "HEAD", 8)
    narrow = logit_statistics(logits)
    for name in wide:
        np.testing.assert_allclose(narrow[name], wide[name], rtol=1e-12, atol=1e-14, err_msg=name)


def test_probabilities_one_half_one_quarter_two_eighths():
    found = logit_statistics(np.log([[1 / 8, 1 / 2, 1 / 8, 1 / 4]]), top_k=(2, 3, 4))
    expected = {
        "log_sum_exp": 0,
        "top_1_probability": 1 / 2,
        "total_entropy": 7 / 4 * math.log(2),
        "varentropy": 11 / 16 * math.log(2) ** 2,
        "top_k_entropy_2": math.log(3) - 2 / 3 * math.log(2),
        "top_k_entropy_4": 7 / 4 * math.log(2),
        "top_p_size_0.95_inclusive": 4,
        "top_p_size_0.95_exclusive": 3,
        "top_p_size_0.9_inclusive": 4,
        "top_p_size_0.9_exclusive": 3,
        "top_p_size_0.75_inclusive": 2,
        "top_p_size_0.5_inclusive": 1,
        "top_p_entropy_0.95_exclusive": math.log(7) - 10 / 7 * math.log(2),
        "top_p_entropy_0.75_inclusive": math.log(3) - 2 / 3 * math.log(2),
        "top_p_entropy_0.5_inclusive": 0,
    }
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, abs=1e-15), name


def test_nucleus_of_weights_exact_in_binary():
    """Sums that hit p exactly: the crossing token is out when inclusive, in when exclusive."""
    found = logit_statistics(np.zeros((1, 4), dtype=np.float32), top_p=(0.75, 0.5))
    for mass, size in ((0.75, 3), (0.5, 2)):
        assert found[f"top_p_size_{mass}_inclusive"][0] == size
        assert found[f"top_p_size_{mass}_exclusive"][0] == size
        assert found[f"top_p_entropy_{mass}_exclusive"][0] == pytest.approx(math.log(size), abs=1e-15)


def test_surest_row_has_an_empty_exclusive_nucleus():
    found = logit_statistics(one_hot(500))
    for mass in ("0.95", "0.9", "0.75", "0.5"):
        assert found[f"top_p_size_{mass}_inclusive"][0] == 1
        assert found[f"top_p_entropy_{mass}_inclusive"][0] == 0
        assert found[f"top_p_size_{mass}_exclusive"][0] == 0
        assert np.isnan(found[f"top_p_entropy_{mass}_exclusive"][0])
    assert (found["total_entropy"][0], found["varentropy"][0], found["top_1_probability"][0]) == (0, 0, 1)


def test_entropies_equal_scipy():
    logits = random_logits(3, 4000, rows=20)
    p = scipy.special.softmax(logits.astype(np.float64), axis=1)
    found = logit_statistics(logits)
    np.testing.assert_allclose(found["total_entropy"], scipy.stats.entropy(p, axis=1), rtol=1e-12)
    np.testing.assert_allclose(found["log_sum_exp"], scipy.special.logsumexp(logits.astype(float), axis=1))
    largest = -np.sort(-p, axis=1)[:, :25]
    np.testing.assert_allclose(found["top_k_entropy_25"], scipy.stats.entropy(largest, axis=1), rtol=1e-12)


def test_entropies_never_exceed_their_maximum():
    # One bit of rounding above ln n would leave a normalised entropy above 1.
    logits = np.random.default_rng(0).standard_normal((400, 150)).astype(np.float32) * 1e-7
    found = logit_statistics(logits)
    assert (found["total_entropy"] <= np.log(150)).all()
    for k in (5, 10, 25, 50, 100):
        assert (found[f"top_k_entropy_{k}"] <= np.log(k)).all()
    for mass in ("0.95", "0.5"):
        assert (found[f"top_p_entropy_{mass}_inclusive"] <= np.log(found[f"top_p_size_{mass}_inclusive"])).all()


def sources():
    logits = np.concatenate([random_logits(2, 1200), sparse(1200)])
    yield "tensor", logits, torch.from_numpy(logits)
    yield "tensor with a gradient", logits, torch.from_numpy(logits).requires_grad_()
    half = torch.from_numpy(logits).bfloat16()
    yield "bfloat16 tensor", half.float().numpy(), half
    yield "every second column", logits[:, ::2], logits[:, ::2]
    yield "columns first", logits, np.asfortranarray(logits)


@pytest.mark.parametrize(("logits", "source"), [pytest.param(*rest, id=name) for name, *rest in sources()])
def test_source_does_not_matter(logits, source):
    expected, found = logit_statistics(np.ascontiguousarray(logits)), logit_statistics(source)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    for one, other in zip(largest_logits(np.ascontiguousarray(logits)), largest_logits(source), strict=True):
        np.testing.assert_array_equal(one, other)


def test_reads_an_hdf5_dataset_by_rows(tmp_path, monkeypatch):
    logits = random_logits(2, 700, rows=9)
    monkeypatch.setattr(statistics, "_BLOCK_ELEMENTS", 2 * 700)
    with h5py.File(tmp_path / "logits.h5", "w") as file:
        found = logit_statistics(file.create_dataset("logits", data=logits))
    for name, expected in logit_statistics(logits).items():
        np.testing.assert_array_equal(found[name], expected)


def test_a_row_alone_gives_the_same_bits_as_in_a_batch(monkeypatch):
    logits = np.concatenate([random_logits(scale, 2500) for scale in (0.1, 1, 2, 5)])
    together = logit_statistics(logits)
    for row in range(len(logits)):
        alone = logit_statistics(logits[row : row + 1])
        for name in together:
            np.testing.assert_array_equal(alone[name][0], together[name][row], err_msg=name)


def test_leaves_its_input_alone():
    logits = sparse(1500)
    before = logits.copy()
    logit_statistics(logits)
    largest_logits(torch.from_numpy(logits))
    np.testing.assert_array_equal(logits, before)


def test_no_rows():
    assert all(values.shape == (0,) for values in logit_statistics(np.empty((0, 200), np.float32)).values())
    assert largest_logits(np.empty((0, 200), np.float32), 7)[0].shape == (0, 7)


def test_top_k_beyond_a_small_vocabulary_is_left_out_unless_asked_for():
    found = logit_statistics(random_logits(1, 30))
    assert [name for name in found if name.startswith("top_k")] == [f"top_k_entropy_{k}" for k in (5, 10, 25)]
    with pytest.raises(ValueError, match=r"top_k parameter .* from 1 to the vocabulary size, 30.* Got 50"):
        logit_statistics(random_logits(1, 30), top_k=(5, 50))


class Lazy:
    """Rows that exist only while they are read."""

    def __init__(self, rows, width):
        self.shape = (rows, width)

    def __getitem__(self, rows):
        n = len(range(*rows.indices(self.shape[0])))
        return random_logits(0.5, self.shape[1], rows=n)


def test_memory_does_not_grow_with_the_rows(monkeypatch):
    monkeypatch.setattr(statistics, "_BLOCK_ELEMENTS", 40 * 2000)
    peaks = []
    for rows in (80, 800):
        tracemalloc.start()
        logit_statistics(Lazy(rows, 2000))
        largest_logits(Lazy(rows, 2000), 8)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "Got NaN in row 5"), (INF, r"Got \+inf in row 5")],
)
@pytest.mark.parametrize("function", [logit_statistics, largest_logits])
def test_refuses_a_row_that_is_not_finite(function, value, message):
    logits = random_logits(1, 1500, rows=8)
    logits[5, 700] = value
    for source in (logits, torch.from_numpy(logits)):
        with pytest.raises(ValueError, match=rf"logits parameter of {function.__name__} .*{message}"):
            function(source)


@pytest.mark.parametrize("function", [logit_statistics, largest_logits])
def test_refuses_a_row_of_minus_infinity(function, monkeypatch):
    monkeypatch.setattr(statistics, "_BLOCK_ELEMENTS", 3 * 1500)
    logits = random_logits(1, 1500, rows=8)
    logits[6] = -INF
    with pytest.raises(ValueError, match="Got only -inf in row 6"):
        function(logits)


@pytest.mark.parametrize("function", [logit_statistics, largest_logits])
@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros(5), r"shape \[rows, vocabulary\].* Got ndarray of shape \(5,\)"),
        (np.zeros((2, 0)), r"Got ndarray of shape \(2, 0\)"),
        ([[1.0, 2.0]], r"Got list of shape \(\)"),
        (np.zeros((2, 5), dtype=int), "floating-point numbers. Got dtype int64"),
        (torch.zeros((2, 5), dtype=torch.int32), "Got dtype int32"),
    ],
)
def test_refuses_what_is_not_rows_of_logits(function, logits, message):
    with pytest.raises(ValueError, match=message):
        function(logits)


@pytest.mark.parametrize("top_k", [(0,), (-1,), (2.5,), (True, "5")])
def test_refuses_a_k_that_is_no_count(top_k):
    with pytest.raises(ValueError, match="The top_k parameter of logit_statistics must"):
        logit_statistics(random_logits(1, 300), top_k=top_k)


@pytest.mark.parametrize("p", [0, 1, 1.5, -0.1, math.nan])
def test_refuses_a_mass_outside_zero_and_one(p):
    with pytest.raises(ValueError, match=r"The top_p parameter of logit_statistics must .* Got"):
        logit_statistics(random_logits(1, 300), top_p=(p,))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [1, 7, 1024])
def test_largest_logits_equal_a_full_sort(case, count):
    logits = CASES[case].astype(np.float32)
    values, ids = largest_logits(CASES[case], count)
    count = min(count, logits.shape[1])
    assert (values.dtype, ids.dtype) == (np.float32, np.int32)
    assert values.shape == ids.shape == (len(logits), count)
    for row, z in enumerate(logits):
        order = sorted(range(len(z)), key=lambda token, z=z: (-z[token], token))[:count]
        np.testing.assert_array_equal(ids[row], order)
        np.testing.assert_array_equal(values[row], z[order])


@pytest.mark.parametrize("count", [0, -3, 2.0])
def test_largest_logits_refuses_a_count_that_is_none(count):
    with pytest.raises(ValueError, match="The count parameter of largest_logits must be an integer"):
        largest_logits(random_logits(1, 300), count)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_gpu_equals_cpu(case):
    on_gpu = torch.from_numpy(np.ascontiguousarray(CASES[case])).cuda()
    expected, found = logit_statistics(CASES[case]), logit_statistics(on_gpu)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=1e-14, err_msg=name)
    for one, other in zip(largest_logits(CASES[case]), largest_logits(on_gpu), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("case", CASES)
def test_device_arithmetic_equals_the_host_s(case, monkeypatch):
    """The path of a CUDA tensor, taken by a CPU tensor."""
    logits = CASES[case].astype(np.float64)
    monkeypatch.setattr(statistics, "_blocks", lambda source, caller: iter([(0, source)]))
    expected, found = logit_statistics(logits), logit_statistics(torch.from_numpy(logits))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=1e-14, err_msg=name)
    for one, other in zip(largest_logits(logits), largest_logits(torch.from_numpy(logits)), strict=True):
        np.testing.assert_array_equal(one, other)
