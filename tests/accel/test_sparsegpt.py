"""SparseGPT against its published formula with explicit inverses, and against the best of all masks."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch

from biaslab.accel.calibration import Calibration, calibration_ids
from biaslab.accel.layers import decoder_layers, dense_linears
from biaslab.accel.masks import pattern_holds
from biaslab.accel.sparsegpt import Hessian, SparseGpt, prune_matrix
from biaslab.errors import CellFailed
from biaslab.models.loading import describe_embedded, load
from tests.accel import tiny
from tests.accel.test_pruners import inputs_of

SMALL = Calibration(samples=6, length=24)


def plain_mask(W: torch.Tensor, costs: torch.Tensor, how: SparseGpt) -> torch.Tensor:
    """The cheapest weights of these columns, one by one: of all rows together, or of each row."""
    groups = [list(itertools.product(range(W.shape[0]), range(W.shape[1])))]
    if how.pattern != "block":
        groups = [[(r, c) for c in range(W.shape[1])] for r in range(W.shape[0])]
    keep = int(how.pattern.split(":")[0]) if ":" in how.pattern else None
    mask = torch.zeros(W.shape, dtype=torch.bool)
    for places in groups:
        n = len(places) - keep if keep else int(len(places) * how.sparsity)
        for place in sorted(places, key=lambda place: float(costs[place]))[:n]:
            mask[place] = True
    return mask


def plain_sparsegpt(weight: torch.Tensor, H: torch.Tensor, how: SparseGpt) -> torch.Tensor:
    """Algorithm 1 in float64: after each column an explicit inverse of what is left of H, no factorization."""
    W, H = weight.double().clone(), H.double().clone()
    dead = H.diagonal() == 0
    W[:, dead] = 0
    H[dead, dead] = 1
    H += how.damping * H.diagonal().mean() * torch.eye(len(H), dtype=H.dtype)
    m = int(how.pattern.split(":")[1]) if ":" in how.pattern else 0
    width = max(m, how.block - how.block % m) if m else how.block
    left = [torch.linalg.inv(H[j:, j:]) for j in range(len(H))]
    d = torch.stack([inverse[0, 0] for inverse in left])
    mask = torch.zeros(W.shape, dtype=torch.bool)
    for j in range(len(H)):
        start, size = (j, m) if m else (j - j % width, width)
        if j == start and (not m or (j % width) % m == 0):
            columns = slice(start, min(start + size, len(H), start - start % width + width))
            mask[:, columns] = plain_mask(W[:, columns], W[:, columns] ** 2 / d[columns], how)
        err = torch.where(mask[:, j], W[:, j], 0.0) / d[j]
        W[:, j:] -= err[:, None] * left[j][0]
        W[mask[:, j], j] = 0
    return W


def correlated(n_in: int, n_tokens: int, seed: int) -> torch.Tensor:
    """Inputs (in, tokens) whose channels go together and differ in size."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(n_in, n_in, generator=g) + 2 * torch.eye(n_in)
    return mix @ torch.randn(n_in, n_tokens, generator=g) * torch.rand(n_in, 1, generator=g)


def matrix(rows: int, n_in: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, n_in, generator=torch.Generator().manual_seed(seed))


def pruned(weight: torch.Tensor, X: torch.Tensor, how: SparseGpt) -> tuple[torch.Tensor, float]:
    hessian = Hessian()
    for part in X.T.split(17):
        hessian.add(part)
    U = hessian.factor("it", how.damping)
    return prune_matrix(weight, U, how, hessian.dead)


@pytest.mark.parametrize(
    "how",
    [
        SparseGpt(block=24),
        SparseGpt(block=7),
        SparseGpt(block=1),
        SparseGpt(block=10, sparsity=0.3),
        SparseGpt(block=10, pattern="row", sparsity=0.7),
        SparseGpt(pattern="2:4", block=8),
        SparseGpt(pattern="2:4", block=10),
        SparseGpt(pattern="1:4", sparsity=0.75, damping=0.1),
        SparseGpt(pattern="2:5", sparsity=0.6, block=12),
    ],
    ids=lambda how: f"{how.pattern},{how.block},{how.sparsity}",
)
@pytest.mark.parametrize("n_in", [24, 22])
def test_it_is_the_published_formula(how: SparseGpt, n_in: int) -> None:
    weight, X = matrix(9, n_in, 0), correlated(n_in, 120, 1)
    X[3] = 0  # a dead channel
    mine, _ = pruned(weight, X, how)
    expected = plain_sparsegpt(weight, 2 * X.double() @ X.double().T, how)
    assert torch.equal(mine == 0, expected == 0)
    torch.testing.assert_close(mine.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "gpt_neox"])
def test_a_whole_model_is_pruned_layer_behind_layer(architecture: str) -> None:
    how = SparseGpt(pattern="2:4", calibration=SMALL)
    model = tiny.make(architecture, hidden_size=48, intermediate_size=100)
    plain = copy.deepcopy(model.module)
    ids = calibration_ids(model, SMALL).ids
    prefix, layers = decoder_layers(plain)
    for i in range(len(layers)):
        mine = [name for name in dense_linears(plain) if name.startswith(f"{prefix}.{i}.")]
        gathered = {name: inputs_of(plain, name, ids).double() for name in mine}
        for name, inputs in gathered.items():
            weight = plain.get_submodule(name).weight
            weight.data = plain_sparsegpt(weight.data, 2 * inputs.T @ inputs, how).float()

    how.apply(model, "sparsegpt24")

    expected = dense_linears(plain)
    for name, linear in dense_linears(model.module).items():
        agree = ((linear.weight == 0) == (expected[name].weight == 0)).float().mean()
        assert agree > 0.999, name  # rounding may decide between two weights that cost the same
        assert (linear.weight - expected[name].weight).norm() < 0.03 * expected[name].weight.norm(), name


def output_error(change: torch.Tensor, H: torch.Tensor) -> float:
    return float(torch.einsum("ri,ij,rj->", change.double(), H.double(), change.double()))


def best_of_all_masks(w: torch.Tensor, H: torch.Tensor, n: int) -> float:
    """Least error of any way to zero `n` of the weights of a row, the others fitted to make up for it."""
    errors = []
    for gone in itertools.combinations(range(len(w)), n):
        inverse = torch.linalg.inv(H.double())[list(gone)][:, list(gone)]
        wanted = w.double()[list(gone)]
        errors.append(float(wanted @ torch.linalg.solve(inverse, wanted)))
    return min(errors)


def test_on_independent_inputs_it_finds_the_best_of_all_masks() -> None:
    for seed in range(10):
        w = matrix(1, 10, seed)
        X = torch.diag(torch.rand(10, generator=torch.Generator().manual_seed(seed)) + 0.1)
        how = SparseGpt(damping=1e-6)
        after, _ = pruned(w, X, how)
        H = 2 * X @ X.T
        assert output_error(after - w, H) == pytest.approx(best_of_all_masks(w[0], H, 5), rel=1e-3)


def test_on_correlated_inputs_it_lies_between_the_best_mask_and_no_update_at_all() -> None:
    best, mine, no_update = [], [], []
    for seed in range(25):
        w, X = matrix(1, 10, seed), correlated(10, 80, seed + 100)
        H = 2 * X @ X.T
        after, _ = pruned(w, X, SparseGpt(damping=1e-6))
        mine.append(output_error(after - w, H))
        best.append(best_of_all_masks(w[0], H, 5))
        no_update.append(output_error(w.masked_fill(after == 0, 0) - w, H))
        assert mine[-1] >= best[-1] * (1 - 1e-4), "no mask can do better than the best"
    assert sum(best) < sum(mine) < 0.7 * sum(no_update)


def test_the_reported_output_error_is_that_of_the_outputs() -> None:
    weight, X = matrix(8, 16, 3), correlated(16, 200, 4)
    how = SparseGpt(block=8)
    after, error = pruned(weight, X, how)
    H = (2 * X @ X.T).double()
    H += how.damping * H.diagonal().mean() * torch.eye(16)
    expected = (output_error(after - weight, H) / output_error(weight, H)) ** 0.5
    assert error == pytest.approx(expected, rel=1e-4)
    assert 0 < error < 1


def test_the_share_is_exact_and_the_scale_of_h_does_not_matter() -> None:
    weight, X = matrix(8, 32, 5), correlated(32, 200, 6)
    once, _ = pruned(weight, X, SparseGpt(block=16))
    twice, _ = pruned(weight, torch.cat([X, X], 1), SparseGpt(block=16))
    assert [(once[:, c : c + 16] == 0).sum().item() for c in (0, 16)] == [64, 64]
    torch.testing.assert_close(once, twice, rtol=1e-3, atol=1e-4)


def test_a_broken_input_and_a_layer_nobody_reaches_are_named() -> None:
    hessian = Hessian()
    with pytest.raises(CellFailed, match="it: no calibration token came by"):
        hessian.factor("it", 0.01)
    hessian.add(torch.full((2, 4), float("nan")))
    with pytest.raises(CellFailed, match="it: an input is NaN or infinite"):
        hessian.factor("it", 0.01)
    hessian = Hessian()
    hessian.add(torch.ones(1, 4))
    with pytest.raises(CellFailed, match="cannot be inverted; raise damping"):
        hessian.factor("it", 0.0)


@pytest.mark.parametrize("pattern", ["block", "row", "2:4"])
def test_the_exact_zero_control_is_left_bit_identical(pattern: str) -> None:
    base = load(describe_embedded("tiny_sparse"), device="cpu", dtype="float32")
    before = {name: value.clone() for name, value in base.module.state_dict().items()}
    SparseGpt(pattern=pattern, calibration=SMALL).apply(base, "it")
    for name, value in base.module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_it_spares_the_outputs_more_than_wanda_does() -> None:
    from biaslab.accel.wanda import Wanda

    calibration = Calibration(samples=32)
    base = load(describe_embedded("tiny_llama"), device="cpu", dtype="float32")
    ids = calibration_ids(base, Calibration(samples=16, seed=7)).ids
    with torch.no_grad():
        before = base.module(input_ids=ids).logits.log_softmax(-1)

    def change(pruner: Any) -> float:
        model = load(describe_embedded("tiny_llama"), device="cpu", dtype="float32")
        pruner.apply(model, "it")
        with torch.no_grad():
            return float((model.module(input_ids=ids).logits.log_softmax(-1) - before).abs().mean())

    for pattern in ("row", "2:4"):
        assert change(SparseGpt(pattern=pattern, calibration=calibration)) < change(
            Wanda(pattern=pattern, calibration=calibration)
        )


def test_facts_tell_pattern_and_errors() -> None:
    model = SparseGpt(pattern="2:4", calibration=SMALL).apply(tiny.make("llama"), "sparsegpt24")
    values = model.facts[0].values
    assert values["sparsity"] == 0.5
    assert values["pattern_holds"] is True
    assert 0 < values["output_error_layers"]["min"] <= values["output_error_layers"]["max"] < 1
    assert values["simulated"] is True
    assert all(pattern_holds(linear.weight, 2, 4) for linear in dense_linears(model.module).values())
