"""The target layers that a user can choose from; torch is imported only where the store lacks them."""

from __future__ import annotations

from quantviz import networks
from quantviz.comparison.loaded import deciding_versions
from quantviz.specs import COMPUTATION_VERSION, StoredRecord, digest_of
from quantviz.store import TensorStore


def target_layers(store: TensorStore, model: str) -> dict[str, str]:
    """Return the layers of a model that can be CAM targets, in execution order.

    Args:
        store: keeps the listing.
        model: name of an architecture.

    Returns:
        Dotted name -> kind and output size, ``"Conv2d, 320 x 7 x 7"`` say.

    Raises:
        UsageError: the model is unknown.
    """
    spec = networks.spec(model)
    # Behind the name of a card or of a user's function, another network may stand tomorrow.
    decides = [model, spec.constructor, spec.family, spec.parameters, spec.layer]
    key = digest_of(["layers", COMPUTATION_VERSION, deciding_versions(), *decides])
    record = store.get(key)
    if record is not None:
        return {name: text for name, text in record.metadata["layers"]}
    from quantviz.networks.build import layers

    described = {
        layer.name: f"{layer.kind}, {layer.channels} x {layer.height} x {layer.width}" for layer in layers(spec)
    }
    store.put(key, StoredRecord({}, {"layers": list(described.items())}))
    return described
