"""Making networks random from Python, to see whether their maps mean something."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from quantviz import networks
from quantviz.api.bench import workbench
from quantviz.api.inputs import Picture, sample_of
from quantviz.api.table import Bits, PictureOptions
from quantviz.layerwise.randomise import SEED
from quantviz.layerwise.randomise import randomise as test
from quantviz.layerwise.specs import Randomisation
from quantviz.specs import Progress, RangeMethod, no_progress


def randomise(
    *images: Picture,
    model: str = networks.DEFAULT_MODEL,
    weights: str | Path | None = None,
    bits: Bits | None = None,
    act_bits: int | Literal["none"] | None = 8,
    scheme: str = "standard",
    ranges: RangeMethod | None = None,
    cam: str = "gradcam++",
    layer: str | None = None,
    calibration: str | Path | None = None,
    seed: int = SEED,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Randomisation:
    """Make a network random layer by layer from its end, and compare its maps and its quantized copy's with before.

    The cascading model parameter randomisation test (Adebayo et al. 2018, arXiv 1810.03292), with the numbers of
    Quantus's ``MPRT``: Spearman's rank correlation of each map with the network's own map before. The quantized copy is
    quantized anew from each random network.

    Args:
        *images: pictures, as ``compare`` takes one.
        model: a name that ``list_models`` lists.
        weights: as in ``compare``, and so the others.
        bits: of the quantized copy.
        act_bits: ``"none"`` for activations in float.
        scheme: one that rounds to the nearest.
        ranges: how activation ranges are set.
        cam: the method.
        layer: dotted name of the target layer.
        calibration: folder of calibration pictures.
        seed: of the random parameters.
        cache: cache folder.
        progress: called with what is being done.

    Returns:
        For each layer, from the network's end, the correlations of each picture: ``layers[i].reference`` of the float
        network's maps and ``layers[i].quantized`` of the quantized copy's.

    Raises:
        UsageError: there is no picture, a value is unknown, or the scheme learns its weights.
        QuantvizError: the network cannot be made.

    Example:
        >>> import quantviz as qv
        >>> test = qv.randomise("chelsea", model="squeezenet1_1", weights="untrained")  # doctest: +SKIP
        >>> test.layers[0].name  # doctest: +SKIP
        'classifier.1'
    """
    options = PictureOptions(
        model=model,
        weights=weights,
        bits=bits,
        act_bits=act_bits,
        scheme=scheme,
        ranges=ranges,
        cam=cam,
        layer=layer,
        calibration=calibration,
        cache=cache,
    )
    quant, _ = options.quant()
    samples = [sample_of(image) for image in images]
    return test(workbench(cache), options.request(quant), samples, progress or no_progress, seed=seed)
