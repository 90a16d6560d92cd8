"""SparseGPT: prune column by column, and let the weights that stay make up for the ones that go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.facts import spread
from biaslab.accel.masks import lowest, parse_pattern, prune_mask
from biaslab.accel.pruning import CalibratedPruner, Changes
from biaslab.accel.walker import walk
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class SparseGpt(CalibratedPruner):
    """Optimal-brain-surgeon pruning in blocks of columns (Frantar and Alistarh 2023, arXiv:2301.00774, alg. 1).

    pattern : "block" chooses the lowest share of each block of columns, over all rows (as published);
        "row" the lowest share of each row of a block; or n:m.
    block : columns whose mask is chosen together (n:m: rounded down to whole groups).
    damping : share of the mean of H's diagonal that is added to it.

    Sequential: a layer's inputs are taken behind the layers that are pruned already. An input channel that
    was always zero has its weights removed first, as published. The published code drops one weight more than
    the share from each block, and whatever ties with it; here the share is exact, so a sparse model stays as
    it is. With the published threshold the masks equal the libraries' at every position (tested).
    """

    pattern: str = "block"
    block: int = 128
    damping: float = 0.01

    family: ClassVar[str] = "sparsegpt"
    restorable: ClassVar[bool] = True
    method: ClassVar[str] = "SparseGPT, blocks of columns with weight updates, sequential"
    summary: ClassVar[str] = "SparseGPT pruning with weight updates (native, calibrated)"
    patterns: ClassVar[tuple[str, ...]] = ("block", "row")
    modifier: ClassVar[str] = "SparseGPTModifier"
    foreign_patterns: ClassVar[tuple[str, ...]] = ("block",)

    def check(self) -> str | None:
        """See Accelerator.check."""
        if self.block < 1:
            return f"block={self.block}: at least 1 column"
        if not 0 < self.damping <= 1:
            return f"damping={self.damping}: above 0, at most 1"
        return super().check()

    def prune_native(self, model: LoadedModel, ids: Tensor, changes: Changes) -> dict[str, Any]:
        """See CalibratedPruner.prune_native."""
        errors: list[float] = []

        def change(name: str, linear: nn.Linear, inputs: Hessian) -> None:
            U = inputs.factor(name, self.damping)
            weight, error = prune_matrix(linear.weight.detach(), U, self, inputs.dead)
            changes.replace(name, linear, weight)
            errors.append(error)

        walk(model.module, ids, Hessian, change)
        return {"output_error_layers": spread(errors)}

    def foreign_options(self) -> dict[str, float]:
        """See CalibratedPruner.foreign_options."""
        return {"block_size": self.block, "dampening_frac": self.damping}


class Hessian:
    """H = 2 X X^T of a layer's inputs, X (in, tokens), in float32.

    Its scale does not matter to SparseGPT, so it is a plain sum and knows no number of samples.
    """

    def __init__(self) -> None:
        self.H: Tensor | None = None
        self.dead: Tensor | None = None  # bool (in,): channels whose input was always zero; set by `factor`
        self._U: Tensor | None = None

    def add(self, inputs: Tensor) -> None:
        """Take in inputs of shape (..., in)."""
        x = inputs.detach().reshape(-1, inputs.shape[-1]).float()
        if self.H is None:
            self.H = x.new_zeros(x.shape[1], x.shape[1])
        self.H.addmm_(x.T, x, alpha=2)

    def factor(self, name: str, damping: float) -> Tensor:
        """Upper triangular U with U^T U = (H + damping * mean(diag H) * I)^-1; H itself is given up for it.

        Raises CellFailed for layer `name` if no input came by, one is not finite, or H cannot be inverted.
        """
        import torch

        if self._U is not None:
            return self._U
        if self.H is None:
            raise CellFailed(f"{name}: no calibration token came by; raise calibration.samples")
        H, self.H = self.H, None
        diagonal = H.diagonal()
        if not diagonal.isfinite().all():
            raise CellFailed(f"{name}: an input is NaN or infinite, so nothing can be ranked")
        self.dead = diagonal == 0
        diagonal[self.dead] = 1
        diagonal += damping * diagonal.mean()
        del diagonal  # a view, which would keep the matrix
        # Step by step into one name: two matrices are alive at a time, the peak of what pruning a layer needs.
        H = _cholesky(H, name, upper=False)
        H = torch.cholesky_inverse(H)
        self._U = _cholesky(H, name, upper=True)
        return self._U


def _cholesky(matrix: Tensor, name: str, *, upper: bool) -> Tensor:
    import torch

    factor: Tensor
    factor, broken = torch.linalg.cholesky_ex(matrix, upper=upper)
    if int(broken):
        raise CellFailed(f"{name}: the Hessian of its inputs cannot be inverted; raise damping or calibration.samples")
    return factor


def prune_matrix(weight: Tensor, U: Tensor, how: SparseGpt, dead: Tensor | None = None) -> tuple[Tensor, float]:
    """The pruned matrix (out, in), float32, and its error ||(W' - W) X||_F / ||W X||_F under the damped Hessian.

    U : see Hessian.factor. dead : bool (in,), channels whose weights are set to zero first.
    """
    import torch

    W = weight.float().clone()
    if dead is not None:
        W[:, dead] = 0
    # ||W X||^2 = 2 tr(W H W^T) and H^-1 = U^T U, so it is the square of W U^-1.
    scale = float(torch.linalg.solve_triangular(U, W, upper=True, left=False).square().sum())
    groups = parse_pattern(how.pattern)
    step = max(groups[1], how.block - how.block % groups[1]) if groups else how.block
    loss = 0.0
    for start in range(0, W.shape[1], step):
        columns = slice(start, min(start + step, W.shape[1]))
        Err = _prune_block(W[:, columns], U[columns, columns], how, groups)
        W[:, columns.stop :] -= Err @ U[columns, columns.stop :]
        loss += float(Err.square().sum())
    return W, (loss / scale) ** 0.5 if scale else 0.0


def _prune_block(W: Tensor, U: Tensor, how: SparseGpt, groups: tuple[int, int] | None) -> Tensor:
    """Prune the columns of one block in place; Err (out, block): each removed weight over its own U_jj."""
    import torch

    Err = torch.zeros_like(W)
    mask = torch.zeros_like(W, dtype=torch.bool) if groups else _block_mask(W, U, how)
    for j in range(W.shape[1]):
        if groups and j % groups[1] == 0:
            group = slice(j, j + groups[1])  # chosen when its turn comes: its weights have changed by then
            mask[:, group] = prune_mask(W[:, group], _saliency(W[:, group], U.diagonal()[group]), 0, how.pattern)
        Err[:, j] = torch.where(mask[:, j], W[:, j] / U[j, j], 0.0)
        W[:, j + 1 :] -= Err[:, j, None] * U[j, None, j + 1 :]
        W[:, j].masked_fill_(mask[:, j], 0)
    return Err


def _block_mask(W: Tensor, U: Tensor, how: SparseGpt) -> Tensor:
    ranked = _saliency(W, U.diagonal()).masked_fill(W == 0, -1.0)
    if how.pattern == "row":
        return lowest(ranked, n_removed(W.shape[1], how.sparsity))
    return lowest(ranked.reshape(1, -1), n_removed(W.numel(), how.sparsity)).reshape(W.shape)


def n_removed(size: int, sparsity: float) -> int:
    """How many of `size` weights go; 1e-6 undoes 0.29 * 100 = 28.999..."""
    return int(size * sparsity + 1e-6)


def _saliency(W: Tensor, diagonal: Tensor) -> Tensor:
    """w^2 / [H^-1]_jj of the columns not pruned yet, which is (w / U_jj)^2: what removing a weight costs."""
    return W.square() / diagonal.square()
