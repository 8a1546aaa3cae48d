"""How faithful a map is to its own model: deletion, insertion, and ROAD by pytorch-grad-cam.

What differs here from calling the library's ROAD directly, and why:

- Its noise comes from torch's global generator. Here it comes from one of its own, seeded for each call: the same
  input gives the same score, in any thread, and the global generator stays as it was.
- It removes the pixels at or above a percentile. Where many pixels tie (the zeros that ReLU leaves), that is more than
  it should be, and all of them if the percentile is the minimum: with nothing left to impute from, the system is
  singular, and the model is shown grey or NaN. Here the pixels are in a strict order, tied ones in a seeded random
  one, so that each step removes its exact share.
- It writes the linear system row by row, which takes longer than solving it, and runs the model on one perturbed
  image at a time. Here both go in bulk; a score differs by float32's rounding.
- It runs the model in whatever mode it is in. Here that is eval mode, and one model serves one call at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from torch import Tensor, nn
from torch.nn import functional

from quantviz.cam.criteria import FAITHFULNESS
from quantviz.cam.locked import Locked, lockable
from quantviz.specs import Heatmap, Phase, Progress, QuantvizError, Score, UsageError, no_progress

STEPS = 16
"""Steps in which deletion and insertion change the image, each an equal share of its pixels."""

PERCENTILES = (10, 20, 30, 40, 50, 60, 70, 80, 90)
"""Percentages of the pixels that ROAD keeps, the library's defaults."""

BLUR = 0.05
"""Standard deviation of insertion's Gaussian blur as a part of the image's shorter side."""

_NOISE = 0.01
_SEED = 0
# Larger batches are slower on a CPU, single images where cores are shared.
_BATCH = 4

_Inputs = Iterable[Tensor]
_Judge = Callable[[_Inputs], npt.NDArray[np.float64]]
"""Takes (C, H, W) inputs to the explained class's softmax probability of each."""


def faithfulness(
    model: nn.Module | Locked[nn.Module],
    image: Tensor,
    heatmap: Heatmap,
    class_index: int,
    *,
    progress: Progress = no_progress,
) -> dict[str, Score]:
    """Return how far the pixels that a map marks are those that the model's probability of the class rests on.

    All three scores are probabilities, or differences of them, so that a model that is sure of its class has a
    wider range to lose than one that is not: compare two maps of one model, or read the scores beside the
    probabilities. The same input gives the same bits on one machine with one number of threads.

    Args:
        model: classifier, float or quantized, bare or ``Locked``; run in eval mode and left as it was. Each of its
            batches waits for other calls that run it.
        image: (1, C, H, W) float32, as the model takes it, normalized.
        heatmap: the model's own map, (H, W).
        class_index: the class that the map explains; its softmax probability is what is followed.
        progress: reports how far it is, between batches; it may raise to stop.

    Returns:
        Scores by the names of ``FAITHFULNESS``. None of them has a value where the map is degenerate.

    Raises:
        UsageError: the class does not exist, the image is not one image, or the map is of another size.
        QuantvizError: the model's logits are not finite.
    """
    if image.ndim != 4 or len(image) != 1:
        raise UsageError(f"Faithfulness takes one image, (1, C, H, W), not {tuple(image.shape)}; pass one at a time.")
    if class_index < 0:
        raise UsageError(f"Class {class_index} is negative; classes count from 0.")
    size = tuple(image.shape[-2:])
    if heatmap.values.shape != size:
        raise UsageError(
            f"The map's shape {heatmap.values.shape} differs from the image's, {size}; use the map at the input's size."
        )
    image = image.detach()[0]
    _probabilities(model, image[None].clone(), class_index)  # a wrong class is refused before anything else is computed
    if reason := _degenerate(heatmap):
        return {name: Score(None, reason) for name in FAITHFULNESS}
    ranks = _ranks(heatmap.values)
    judge = _judge_of(model, class_index, progress)
    return {name: Score(_FUNCTIONS[name](judge, image, ranks)) for name in FAITHFULNESS}


def _degenerate(heatmap: Heatmap) -> str:
    if heatmap.degenerate:
        return f"the map is degenerate: {heatmap.degenerate}"
    if not np.isfinite(heatmap.values).all():
        return "the map contains NaN or infinity"
    return "the map is constant" if heatmap.values.min() == heatmap.values.max() else ""


def _ranks(values: npt.NDArray[Any]) -> Tensor:
    """Return each pixel's place from the least relevant, 0, to the most, int64 (H, W); ties in a random order."""
    luck = np.random.default_rng(_SEED).permutation(values.size)
    ranks = np.empty(values.size, dtype=np.int64)
    ranks[np.lexsort((luck, values.ravel()))] = np.arange(values.size)
    return torch.from_numpy(ranks.reshape(values.shape))


def _deletion(judge: _Judge, image: Tensor, ranks: Tensor) -> float:
    """Area under the class's probability as the most relevant pixels are deleted first.

    The steps are coarser than RISE's 224 pixels; on EfficientNet-Lite0 that moved the area by up to 0.006.

    It rewards scattered maps: single pixels set to one colour are a pattern that no photograph has, and a map of random
    pixels can win over any CAM (measured: 0.14 against 0.33). Compare only maps of one granularity.
    """
    return _area(judge(_steps(image, torch.zeros_like(image), ranks)))


def _insertion(judge: _Judge, image: Tensor, ranks: Tensor) -> float:
    """Area under the class's probability as the most relevant pixels come first onto the blurred image.

    RISE's code blurs with 11 taps, which leaves classes recognizable: of EfficientNet-Lite0's probability on the
    bundled photographs, up to 0.53. At a twentieth of the side at most 0.006 is left.
    """
    return _area(judge(_steps(_blurred(image), image, ranks)))


def _road(judge: _Judge, image: Tensor, ranks: Tensor) -> float:
    """Half the probability lost between removing the least and the most relevant pixels, by noisy imputation.

    Removed pixels are replaced by the weighted mean of their eight neighbours (1/6 beside, 1/12 across), solved for
    all of them together, plus noise, so that the removed shape tells the model as little as possible.
    """
    # Here, as the library takes longer to import than a map to compute, and few want this score.
    from pytorch_grad_cam.metrics.perturbation_confidence import RemoveLeastRelevantFirst, RemoveMostRelevantFirst

    relevance = (ranks + 1).float() / ranks.numel()
    impute = _Imputer()
    # The library's own order, which decides which noise an image gets.
    both = (RemoveLeastRelevantFirst, RemoveMostRelevantFirst)
    removals = [removal(percentile, impute) for removal in both for percentile in PERCENTILES]
    least_first, most_first = judge(remove(image, relevance) for remove in removals).reshape(2, -1)
    return float((least_first - most_first).mean() / 2)


def _steps(start: Tensor, end: Tensor, ranks: Tensor) -> Iterator[Tensor]:
    """Give the images from one to the other, the most relevant pixels changed first."""
    for step in range(STEPS + 1):
        yield torch.where(ranks >= ranks.numel() - round(step * ranks.numel() / STEPS), end, start)


def _area(curve: npt.NDArray[np.float64]) -> float:
    return float(np.trapezoid(curve, dx=1 / STEPS))


def _blurred(image: Tensor) -> Tensor:
    sigma = BLUR * min(image.shape[-2:])
    reach = max(1, round(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    row = (taps / taps.sum()).reshape(1, 1, 1, -1)
    # Repeated edges: reflected ones would need a side longer than the kernel's reach.
    wide = functional.pad(image[:, None], (reach,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(wide, row), row.mT)[:, 0]


class _Imputer:
    """The library's imputation, with its own generator and the linear system put together at once."""

    def __init__(self) -> None:
        from pytorch_grad_cam.metrics.road import NoisyLinearImputer

        library = NoisyLinearImputer(noise=_NOISE)
        self._noise, self._weighting = library.noise, library.weighting
        self._generator = torch.Generator().manual_seed(_SEED)

    def __call__(self, image: Tensor, kept: Tensor) -> Tensor:
        missing = kept < 0.5
        filling = torch.from_numpy(self._solution(image.numpy(), missing.numpy())).float().t()
        # Memory laid out as the library's, since that decides the order in which the noise is drawn.
        noise = torch.empty_like(filling).normal_(generator=self._generator)
        imputed = image.clone()
        imputed[:, missing] = filling + self._noise * noise
        return imputed

    def _solution(self, image: npt.NDArray[Any], missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Return the missing pixels' values, float64 (n, C): each the weighted mean of its neighbours in the image."""
        outside, known = -2, -1
        number = np.full(missing.shape, known)
        number[missing] = unknowns = np.arange(np.count_nonzero(missing))
        number = np.pad(number, 1, constant_values=outside)
        colours = np.pad(image.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
        rows, columns = np.nonzero(missing)
        total, right = np.zeros(len(unknowns)), np.zeros((len(unknowns), len(image)))
        entries = []
        for (down, along), weight in self._weighting:
            near = number[rows + 1 + down, columns + 1 + along]
            total += weight * (near != outside)
            # Whatever is unknown or outside adds nothing to the right-hand side.
            right += (weight * (near == known) * colours[:, rows + 1 + down, columns + 1 + along]).T
            inner = unknowns[near >= 0]
            entries.append((np.full(len(inner), -weight), inner, near[near >= 0]))
        entries.append((total, unknowns, unknowns))
        values, i, j = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        system = csc_matrix((values, (i, j)))
        # Symmetric and diagonally dominant: no pivoting is needed, and an ordering for such systems is faster.
        factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        return np.asarray(factors.solve(right))


def _judge_of(model: nn.Module | Locked[nn.Module], class_index: int, progress: Progress) -> _Judge:
    total, done = 2 * (STEPS + 1) + 2 * len(PERCENTILES), 0

    def judge(inputs: _Inputs) -> npt.NDArray[np.float64]:
        nonlocal done
        inputs, probabilities = iter(inputs), []
        while batch := list(islice(inputs, _BATCH)):
            progress("Measuring faithfulness", done / total, Phase.SCORING)
            probabilities.append(_probabilities(model, torch.stack(batch), class_index))
            done += len(batch)
        return np.concatenate(probabilities)

    return judge


def _probabilities(model: nn.Module | Locked[nn.Module], inputs: Tensor, class_index: int) -> npt.NDArray[np.float64]:
    with lockable(model).locked() as module, _evaluating(module), torch.no_grad():
        logits = module(inputs).double()
    if class_index >= logits.shape[1]:
        raise UsageError(f"Class {class_index} does not exist; this model has classes 0 to {logits.shape[1] - 1}.")
    if not bool(torch.isfinite(logits).all()):
        raise QuantvizError("The model's logits are not finite; use more bits or other weights.")
    return np.asarray(torch.softmax(logits, dim=1)[:, class_index].numpy())


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


_FUNCTIONS = {"deletion": _deletion, "insertion": _insertion, "road": _road}
