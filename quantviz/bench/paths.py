"""The ways to a map that the benchmark times: a model's networks, and a call for each way."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import parametrize

from quantviz import cam, images
from quantviz.bench.diagnosis import DIAGNOSIS, DIAGNOSIS_PASSES, PICTURES
from quantviz.cam import Locked, one_thread
from quantviz.cam.peers import Peer, library_maps, peers
from quantviz.comparison.calibration import calibration_set
from quantviz.comparison.deploy import parted_layer
from quantviz.comparison.loaded import Subject
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.specs import CamSpec, Progress, QuantSpec, QuantvizError, no_progress
from quantviz.study.planning import SweepRequest, plan_of
from quantviz.study.specs.plan import StudyImage
from quantviz.study.sweep.rows import RowMaker

if TYPE_CHECKING:
    from quantviz.backends import Split

UNTRAINED = "untrained"
QUANT = QuantSpec(8, 8)
PLAIN, LIBRARY, LIBRARY_QUANTIZED = "forward", "pytorch-grad-cam", "pytorch-grad-cam prepare_qat"
LIBRARY_KERNELS = "pytorch-grad-cam fake-quantized"
FLOAT, SIMULATED, PAIR = "float map", "simulated map", "simulated pair"
BACKEND_FLOAT, DEPLOYED_PAIR = "float map onnxruntime", "deployed pair"
BACKEND_SIMULATED, BACKEND_PAIR = "simulated map onnxruntime", "simulated pair onnxruntime"
BARE_SESSIONS = "bare sessions"
NCNN_FLOAT, NCNN_PAIR = "float map ncnn", "deployed pair ncnn"
FIRST, REPEATED = "comparison", "repeated comparison"
SWEPT, BARE, SWEPT_BACKEND = "sweep", "bare forwards", "sweep onnxruntime"
BARE_FILES, FILES_PAIR = "bare onnx files", "onnx files"

TITLES = {
    PLAIN: "plain torch forward",
    LIBRARY: "pytorch-grad-cam, float map",
    LIBRARY_QUANTIZED: "pytorch-grad-cam, map of prepare_qat's model",
    LIBRARY_KERNELS: "pytorch-grad-cam, map with fake-quantized inputs only",
    "torch-cam": "torch-cam, float map",
    "Captum": "Captum, float map",
    FLOAT: "quantviz, float map",
    SIMULATED: "quantviz, simulated W8A8 map",
    PAIR: "quantviz, float and simulated W8A8 map",
    BACKEND_FLOAT: "quantviz, float map, ONNX Runtime",
    BACKEND_SIMULATED: "quantviz, simulated W8A8 map, ONNX Runtime",
    BACKEND_PAIR: "quantviz, float and simulated W8A8 map, ONNX Runtime",
    BARE_SESSIONS: "the limit: bare float and int8 runs of these networks, ONNX Runtime",
    DEPLOYED_PAIR: "quantviz, float and deployed int8 map, ONNX Runtime",
    NCNN_FLOAT: "quantviz, float map, ncnn",
    NCNN_PAIR: "quantviz, float map by ncnn and deployed int8 map",
    BARE_FILES: "a float and an int8 ONNX file, bare runs",
    FILES_PAIR: "quantviz, maps of the two ONNX files",
    FIRST: "quantviz, a whole comparison",
    REPEATED: "quantviz, the same comparison again",
    BARE: "bare forwards of what a sweep runs",
    SWEPT: "quantviz, a picture of a sweep, decoded",
    SWEPT_BACKEND: "quantviz, a picture of a sweep, decoded, ONNX Runtime",
    DIAGNOSIS_PASSES: f"bare float and simulated passes of {PICTURES} pictures",
    DIAGNOSIS: f"quantviz, diagnosis of {PICTURES} pictures, tensor by tensor",
}

Calls = dict[str, Callable[[], Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """A model, its networks and its inputs.

    Attributes:
        workbench: holds quantviz's own networks.
        request: model, untrained weights, W8A8.
        subject: of the request.
        cam: Grad-CAM++ at the model's own target layer.
        plain: the network as its constructor makes it; every parameter asks for its gradient.
        reference: the float network that quantviz takes maps of.
        simulated: its quantized copy.
        prepared: ``plain`` as ``torch.ao.quantization.prepare_qat`` makes it, in eval mode.
        fake: ``plain`` with torch's fake-quantize kernels at layers' inputs and weights, and nothing else.
    """

    workbench: Workbench
    request: CompareRequest
    subject: Subject
    cam: CamSpec
    plain: Locked[nn.Module]
    reference: Locked[nn.Module]
    simulated: Locked[nn.Module]
    prepared: Locked[nn.Module]
    fake: Locked[nn.Module]


def bench_of(workbench: Workbench, model: str, progress: Progress) -> Bench:
    """Make a model's networks; the workbench's own float model asks for gradients afterwards.

    Raises:
        UsageError: the model is unknown.
    """
    request = CompareRequest(model, UNTRAINED, QUANT)
    subject = workbench.subject(request, progress)
    plain = workbench.networks.load(subject.spec, subject.located, progress).network
    reference = workbench.protocols.reference(subject, QUANT, progress)
    simulated = workbench.protocols.quantized(subject, QUANT, progress)
    with plain.locked() as module, simulated.locked() as rounded:
        # As whoever loads a model has it: every parameter asks for its gradient.
        module.requires_grad_(True)
        trained = Locked(prepared(module, workbench.networks.example(subject)))
        fake = Locked(fake_quantized(module, rounded).requires_grad_(True))
    cam_spec = replace(request.cam, layer=subject.layer)
    return Bench(workbench, request, subject, cam_spec, plain, reference, simulated, trained, fake)


def prepared(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy fake-quantized the way torch's tutorials do it, in eval mode: what most users would take maps of.

    ``eval()`` leaves the observers on; they have seen ``example``.

    Args:
        model: float; left as it was.
        example: (1, 3, H, W) float32.
    """
    ao: Any = import_module("torch.ao.quantization")
    copied = copy.deepcopy(model).train().requires_grad_(True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it is deprecated in favour of what takes no eager model
        copied.qconfig = ao.get_default_qat_qconfig("x86")
        ao.prepare_qat(copied, inplace=True)
        copied.eval()(example)
    return copied


def fake_quantized(model: nn.Module, simulated: nn.Module) -> nn.Module:
    """Return a copy that rounds by torch's fake-quantize kernels at every pass, and observes nothing.

    Every convolution and linear layer rounds its input per tensor, on the grid that ``simulated`` has there, and its
    weight per channel: the least that quantization-aware training does.

    Args:
        model: float; left as it was.
        simulated: its W8A8 copy by ``quantize.assemble``, whose layers have the same names.
    """
    copied = copy.deepcopy(model)
    layers = [(name, layer) for name, layer in copied.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for name, layer in layers:
        grid = simulated.get_submodule(f"{name}.input_quantizer").grid
        layer.register_forward_pre_hook(_rounding(grid))
        parametrize.register_parametrization(layer, "weight", _FakeWeight(layer.weight))
    return copied


class _FakeWeight(nn.Module):
    """Rounds a weight symmetrically per output channel, to eight bits."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        scale = weight.detach().flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).eps) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", torch.zeros(len(weight), dtype=torch.int32))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.fake_quantize_per_channel_affine(weight, self.scale, self.zero_point, 0, -127, 127)


def _rounding(grid: Any) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    limits = float(grid.scale), int(grid.zero_point), int(grid.quant_min), int(grid.quant_max)

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.fake_quantize_per_tensor_affine(inputs[0], *limits), *inputs[1:])

    return hook


def calls(bench: Bench, inputs: Tensor) -> Calls:
    """Return what is timed on these inputs (N, 3, H, W), by its key in ``TITLES``."""

    def forward() -> Tensor:
        with torch.no_grad(), bench.plain.locked(in_one_thread=False) as module:
            logits: Tensor = module(inputs)
        return logits

    classes = [int(index) for index in forward().argmax(dim=1)]

    def maps(network: Locked[nn.Module]) -> None:
        if len(inputs) == 1:
            cam.explain(network, inputs, bench.cam, classes[0])
        else:
            cam.explain_batch(network, inputs, bench.cam, classes)

    def pair() -> None:
        if len(inputs) == 1:
            cam.explain_each([(bench.reference, bench.cam), (bench.simulated, bench.cam)], inputs, classes[0])
        else:
            maps(bench.reference)
            maps(bench.simulated)

    def peer(function: Peer, network: Locked[nn.Module]) -> Callable[[], None]:
        return lambda: _of_peer(function, network, bench.subject.layer, inputs, classes)

    found: Calls = {PLAIN: forward, LIBRARY: peer(library_maps, bench.plain)}
    found[LIBRARY_QUANTIZED] = peer(library_maps, bench.prepared)
    found[LIBRARY_KERNELS] = peer(library_maps, bench.fake)
    found |= {name: peer(function, bench.plain) for name, function in peers().items()}
    found |= {FLOAT: lambda: maps(bench.reference), SIMULATED: lambda: maps(bench.simulated), PAIR: pair}
    return found | backend_calls(bench, inputs, classes)


def backend_calls(bench: Bench, inputs: Tensor, classes: list[int]) -> Calls:
    """Return the ways by ONNX Runtime and ncnn, which take one image; none of a backend that cannot run a model."""
    if len(inputs) > 1 or find_spec("onnxruntime") is None or not hasattr(bench.workbench, "backends"):
        return {}

    try:
        return dict(backend_maps(bench.workbench, bench.subject, bench.cam, QUANT, inputs, classes[0]))
    except QuantvizError:  # a network that cannot be parted at its target layer
        return {}


def backend_maps(
    workbench: Workbench, subject: Subject, cam_spec: CamSpec, quant: QuantSpec, image: Tensor, class_index: int
) -> dict[str, Callable[[], Any]]:
    """Return what is timed: a float map by ONNX Runtime and by ncnn, each with a deployed int8 map, and simulated ones.

    ncnn is left out where it cannot run a network. The two maps of a pair are made at the same time, in a thread each,
    where torch has two.

    Args:
        workbench: with the networks.
        subject: which network, and its layer.
        cam_spec: method; the layer is the subject's.
        quant: as in ``check_deployable``.
        image: (1, 3, H, W) float32.
        class_index: the class to explain.

    Raises:
        as ``Backends.deployed``.
    """
    backends = workbench.backends

    def maps(*networks: Locked[Split]) -> Callable[[], Any]:
        wanted = [(network, replace(cam_spec, layer=parted_layer(network))) for network in networks]
        return lambda: cam.explain_each(wanted, image, class_index)

    deployed, simulated = (
        backends.deployed(subject, quant, no_progress),
        backends.simulated(subject, quant, no_progress),
    )
    bare = backends.sessions(subject, quant, no_progress, torch.get_num_threads())
    found: dict[str, Callable[[], Any]] = {
        BARE_SESSIONS: lambda: [session(image) for session in bare],
        BACKEND_SIMULATED: maps(simulated),
        BACKEND_PAIR: maps(backends.reference(subject, no_progress), simulated),
    }
    names = {"onnxruntime": (BACKEND_FLOAT, DEPLOYED_PAIR)}
    if not backends.prepare(subject, QuantSpec(), no_progress, "ncnn"):
        names["ncnn"] = (NCNN_FLOAT, NCNN_PAIR)
    for backend, (alone, pair) in names.items():
        found[alone] = maps(backends.reference(subject, no_progress, backend))
        found[pair] = maps(backends.reference(subject, no_progress, backend), deployed)
    return found


def _of_peer(function: Peer, network: Locked[nn.Module], layer: str, inputs: Tensor, classes: list[int]) -> None:
    with network.locked(in_one_thread=False) as module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other libraries' own, at every call
            function(module, module.get_submodule(layer), inputs, classes)
        module.zero_grad()  # every weight's gradient is as large as the weights


def inputs_of(bench: Bench, count: int) -> Tensor:
    """Return inputs (count, 3, H, W) cut from the bundled photographs."""
    views = calibration_set(None).views(bench.subject.ref.preprocessing, count)
    return torch.from_numpy(np.concatenate(list(views)))


def write_pictures(folder: Path, count: int) -> list[Path]:
    """Write crops of the bundled photographs as PNG files, 240 x 320 pixels; return their paths."""
    found = []
    for index in range(count):
        name, turn = images.BUNDLED[index % len(images.BUNDLED)], index // len(images.BUNDLED)
        rgb = images.bundled(name).rgb
        top, left = (17 * turn) % (len(rgb) - 240 + 1), (29 * turn) % (rgb.shape[1] - 320 + 1)
        found.append(folder / f"{index:03d}.png")
        Image.fromarray(np.ascontiguousarray(rgb[top : top + 240, left : left + 320])).save(found[-1])
    return found


def comparison_calls(bench: Bench, picture: Path) -> Calls:
    """Return one picture's comparison, and the same again."""
    sample = images.load(picture)
    return {
        FIRST: lambda: bench.workbench.compare(bench.request, sample),
        REPEATED: lambda: bench.workbench.compare(bench.request, sample),
    }


def sweep_calls(bench: Bench, folder: Path, progress: Progress) -> Callable[[int], Calls]:
    """Return the function from a picture's place in the folder to a sweep's work on it, and to the bare forwards.

    A sweep's work is all that is done once the picture is decoded: cropping, saliency, two maps and all scores. Both
    are in one thread, as all of a sweep's processes are.
    """
    name = bench.subject.spec.name
    request = SweepRequest(folder, (name,), (QUANT,), {name: UNTRAINED})
    plan = plan_of(request, progress=progress)
    maker = RowMaker(bench.workbench, plan, request, plan.pieces[0], progress)
    makers = {SWEPT: maker}
    try:
        fast = replace(plan, backend="onnxruntime")
        with one_thread():
            makers[SWEPT_BACKEND] = RowMaker(bench.workbench, fast, request, fast.pieces[0], progress)
    except QuantvizError:  # ONNX Runtime does not run the network; the path has no timings then
        pass

    def of(index: int) -> Calls:
        image: StudyImage = plan.images[index]
        sample = images.load(folder / image.path, name=image.path)
        inputs = torch.from_numpy(images.normalize(images.crop(sample.rgb, maker.preprocessing), maker.preprocessing))

        def bare() -> None:
            with torch.no_grad(), one_thread():
                for network, _ in (maker.float_network, *maker.networks.values()):
                    with network.locked() as module:
                        module(inputs)

        def swept(by: RowMaker) -> None:
            with one_thread():
                by.rows(index, by.prepared(sample))

        return {BARE: bare} | {path: partial(swept, by) for path, by in makers.items()}

    return of
