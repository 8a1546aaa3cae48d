"""A small data set of one's own: bundled photographs in folders of any names, and a network with as many classes."""

import warnings

import safetensors.torch
import torch
from PIL import Image
from torchvision.models import squeezenet1_1

from quantviz import images

NAMES = ("tiger cat", "cup_of coffee", "Rocket")  # in the order of the network's outputs
FOLDERS = {"Tiger-Cat": "chelsea", "cup of coffee": "coffee", "Rocket": "rocket"}
CLASSES_OF = {"Tiger-Cat": 0, "cup of coffee": 1, "Rocket": 2}


def own_pictures(folder, names=FOLDERS):
    """Write one crop of a photograph into each folder, and one picture beside the folders."""
    for place, (name, photograph) in enumerate(names.items()):
        (folder / name).mkdir(parents=True)
        Image.fromarray(images.bundled(photograph).rgb[:240, :240]).save(folder / name / f"{place}.png")
    Image.fromarray(images.bundled("flower").rgb[:240, :240]).save(folder / "loose.png")
    return folder


def own_network(path, classes=3):
    """Write the weights of SqueezeNet for a few classes, drawn by a seed: an UNTRAINED network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        safetensors.torch.save_file(squeezenet1_1(num_classes=classes).state_dict(), path)
    return path


def names_file(path, names=NAMES):
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def exported(weights, path, side):
    """Write SqueezeNet with these weights as a float ONNX file for pictures of some side."""
    values = safetensors.torch.load_file(weights)
    module = squeezenet1_1(num_classes=len(values["classifier.1.bias"])).eval()
    module.load_state_dict(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs a second and no compiler is deprecated
        example = torch.zeros(1, 3, side, side)
        torch.onnx.export(module, (example,), path, dynamo=False, input_names=["input"], output_names=["logits"])
    return path
