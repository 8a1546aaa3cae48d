"""A quantized file with tensors taken out of their rounding, or on other grids, against closed forms."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_support import pictures, quantized, rich, saved, small
from onnxruntime.quantization import QuantFormat, QuantType

from quantviz.networks.onnx_files import open_file, pair_of
from quantviz.networks.onnx_files.editing import PairEditor
from quantviz.networks.onnx_files.grids import grid_of
from quantviz.networks.onnx_files.regrid import exclude, set_activation, set_weight
from quantviz.networks.onnx_files.running import session

KINDS = {
    "small qdq": (small, {}),
    "rich qdq": (rich, {}),
    "small qoperator": (small, {"quant_format": QuantFormat.QOperator, "per_channel": False}),
    "small symmetric": (small, {"activation_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}}),
}


@pytest.fixture(scope="module", params=list(KINDS))
def editor(request, tmp_path_factory):
    make, options = KINDS[request.param]
    path = saved(tmp_path_factory.mktemp("pair"), make())
    return PairEditor(pair_of(open_file(path), open_file(quantized(path, "int8.onnx", **options))))


def run(opened, picture, *, optimized=False):
    ready = session(opened.file.model, opened.file, 1, optimized=optimized)
    return ready.run(None, {ready.get_inputs()[0].name: picture})[0]


@pytest.fixture(scope="module")
def picture():
    return pictures(1, seed=5)


def test_nothing_taken_out_is_the_quantized_file(editor, picture):
    changed = run(editor.without(()), picture)
    assert np.allclose(changed, run(editor.pair.quantized, picture), atol=1e-5)


@pytest.mark.parametrize("optimized", [False, True])
def test_everything_taken_out_is_the_float_file(editor, picture, optimized):
    changed = editor.without(editor.names)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in changed.file.model.graph.node}
    expected = run(editor.pair.reference, picture, optimized=optimized)
    assert np.allclose(run(changed, picture, optimized=optimized), expected, atol=1e-5)


def test_a_weight_alone_is_the_float_file_with_that_weight_rounded(editor, picture):
    entry = next(one for one in editor.stored.values() if one.role == "weight")
    model = onnx.ModelProto()
    model.CopyFrom(editor.pair.reference.file.model)
    (own,) = [one for one in model.graph.initializer if np.array_equal(numpy_helper.to_array(one), entry.reference)]
    own.CopyFrom(numpy_helper.from_array(entry.values, own.name))
    ready = session(model, editor.pair.reference.file, 1, optimized=False)
    expected = ready.run(None, {"input": picture})[0]
    changed = editor.without([name for name in editor.names if name != entry.name])
    assert np.allclose(run(changed, picture), expected, atol=1e-5)
    assert not np.allclose(run(editor.pair.reference, picture), expected, atol=1e-5)


def test_an_activation_alone_rounds_the_input(editor, picture):
    (name,) = [name for name, entry in editor.activations.items() if entry.reference == "input"]
    grid = editor.activations[name].grid
    rounded = grid.real(grid.integers(picture))
    changed = editor.without([other for other in editor.names if other != name])
    assert np.allclose(run(changed, picture), run(editor.pair.reference, rounded), atol=1e-5)


def stored_again(editor, draft, name):
    """Return the values of a weight or a bias in a changed file, and its grid."""
    opened = draft.opened()
    (node,) = [node for node in opened.graph.nodes if node.outputs[0] == editor.stored[name].output]
    grid, integers = grid_of(opened.graph, node), opened.graph.constants[node.inputs[0]]
    return integers, grid, opened


def test_a_weight_rounded_anew_lies_within_half_a_step_and_its_bias_on_the_product(editor):
    for name, entry in editor.stored.items():
        if entry.role != "weight":
            continue
        for bits, per_channel in ((8, True), (8, False), (16, True)):
            draft = editor.draft()
            set_weight(draft, entry, bits=bits, per_channel=per_channel)
            integers, grid, opened = stored_again(editor, draft, name)
            axis = 0 if grid.axis is None else grid.axis % entry.reference.ndim
            shape = [-1 if at == axis and grid.axis is not None else 1 for at in range(entry.reference.ndim)]
            error = np.abs(integers * grid.scale.reshape(shape) - entry.reference)
            # The product in float32 is itself off by a part of a 16-bit step.
            assert (error <= grid.scale.reshape(shape) * 0.51).all()
            assert np.abs(integers).max() == 2 ** (bits - 1) - 1
            assert np.isfinite(run(opened, pictures(1))).all()


def test_integer_kernels_take_the_bias_on_its_new_grid(editor, picture):
    entry = next(one for one in editor.stored.values() if one.role == "weight")
    draft = editor.draft()
    set_weight(draft, entry, bits=8, per_channel=True)
    opened = draft.opened()
    plain, fused = run(opened, picture), run(opened, picture, optimized=True)
    assert np.abs(plain - fused).max() < 0.1 * np.ptp(plain)


def test_an_activation_on_sixteen_bits_leaves_nearly_nothing(editor, picture):
    name, entry = next((name, one) for name, one in editor.activations.items() if one.reference == "input")
    draft = editor.draft()
    for other in editor.names:
        if other != name:
            draft.take_out(other)
    set_activation(draft, entry, float(picture.min()), float(picture.max()), bits=16)
    coarse = editor.without([one for one in editor.names if one != name])
    expected = run(editor.pair.reference, picture)
    before, after = (np.abs(run(one, picture) - expected) for one in (coarse, draft.opened()))
    assert after.max() < before.max() / 20


def test_an_excluded_operator_reads_nothing_rounded(editor, picture):
    entry = next(one for one in editor.stored.values() if one.role == "weight")
    draft = editor.draft()
    node = exclude(draft, entry)
    opened = draft.opened()
    twin = opened.graph.producers[node.outputs[0]]
    sources = [opened.graph.producers.get(name) for name in twin.inputs]
    assert not [one for one in sources if one is not None and one.op == "DequantizeLinear"]
    assert np.isfinite(run(opened, picture)).all()
