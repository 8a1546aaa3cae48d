"""Pictures to sweep over, the rows of a study, and studies of made-up numbers of any size."""

import hashlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from quantviz import images
from quantviz.specs import CalibrationRef, CamSpec, Preprocessing, WeightsRef, parse_bits, spec_of
from quantviz.study.folder import StudyFolder
from quantviz.study.specs.plan import StudyImage, StudyModel, StudyPlan
from quantviz.study.specs.row import StudyRow

LITE, SQUEEZE = "efficientnet_lite0", "squeezenet1_1"
CAT, ESPRESSO = "n02123159", "n07920052"  # tiger cat, 282; espresso, 967
BROKEN = f"{ESPRESSO}/broken.jpg"

PREPROCESSING = Preprocessing(256, 224, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
ARCHITECTURES = ("vgg16", "resnet50", "densenet121", "mobilenet_v2", "efficientnet_b0", "squeezenet1_1")
_METRICS = ("sim", "cc", "kld")


def labelled_pictures(folder):
    """Write five crops of bundled photographs, three of them labelled, and a broken file."""
    for name in (CAT, ESPRESSO, "others"):
        (folder / name).mkdir()
    for place, part in enumerate(((0, 0), (30, 60))):
        rgb = images.bundled("chelsea").rgb[part[0] : part[0] + 250, part[1] : part[1] + 300]
        Image.fromarray(rgb).save(folder / CAT / f"{place}.png")
    Image.fromarray(images.bundled("coffee").rgb[:380, 100:500]).save(folder / ESPRESSO / "cup.png")
    Image.fromarray(images.bundled("flower").rgb[100:400, 100:450]).save(folder / "others" / "flower.png")
    Image.fromarray(images.bundled("rocket").rgb[:300, 100:420]).save(folder / "others" / "rocket.png")
    (folder / BROKEN).write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return folder


def rows_of(study):
    return pq.read_table(study / "results.parquet").to_pylist()


def one(rows, **wanted):
    found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    assert len(found) == 1
    return found[0]


def synthetic_plan(pictures, models=ARCHITECTURES, bits=("16", "8", "6", "4"), protocols=("calibrated",), **changes):
    """Return the plan of a study whose every fifth picture has no label."""
    weights = WeightsRef("file", "one.pth", "ab" * 32, PREPROCESSING)
    settings = {
        "models": tuple(StudyModel(name, weights, "features") for name in models),
        "quants": tuple(spec_of("standard", *parse_bits(text)) for text in bits),
        "protocols": protocols,
        "cam": CamSpec(),
        "calibration": CalibrationRef("bundled photographs", 40, "cd" * 32),
        "saliency": "spectral_residual 1",
        "images": tuple(
            StudyImage(
                f"n{place % 40:08d}/{place:06d}.jpg",
                hashlib.sha256(b"%d" % place).hexdigest(),
                place % 1000 if place % 5 else None,
            )
            for place in range(pictures)
        ),
        "limit": None,
        "seed": None,
        "batch": pictures,
        "versions": {"torch": "2.14.1"},
        "computation": 1,
        "dataset": "pictures",
        "command": "quantviz sweep pictures",
    }
    return StudyPlan(**{**settings, **changes})


def synthetic_study(path, plan, seed=0):
    """Write a finished study of this plan: drift grows as bits shrink and goes with flips; a few maps are lost."""
    folder = StudyFolder(path)
    random = np.random.default_rng(seed)
    with folder.locked():
        folder.begin(plan)
        for piece in plan.pieces:
            folder.commit(plan, piece, synthetic_rows(plan, piece, random), {})
        folder.finish(plan)
    return path


def synthetic_rows(plan, piece, random):
    """Return the rows of a piece, as a sweep makes them."""
    count = piece.stop - piece.start
    variants = plan.variants_of(piece.protocol)
    own = {metric: random.beta(6, 3, count) for metric in _METRICS}
    sure, right = random.beta(3, 1, count), random.random(count) < 0.75
    by_variant = [_numbers(random, variant.quant.weight_bits, own, sure, right) for variant in variants]
    truth = {name: random.random((len(variants), count)) for name in plan.truth_columns}
    rows = []
    for at in range(count):
        image = plan.images[piece.start + at]
        for place, (variant, numbers) in enumerate(zip(variants, by_variant, strict=True)):
            known = (piece.start + at, image.sha256, plan.models[piece.model].name, variant.label, "standard")
            if at % 1000 == 999:
                told = {"error": "the picture is broken"}
            else:
                told = {name: values[at].item() for name, values in numbers.items()}
                lost = at % 97 == 0
                if lost:
                    told |= {name: None for name in told if name.startswith("quantized_v_")}
                    told["quantized_degenerate"] = "constant"
                if image.label is None:
                    told["float_correct"] = told["quantized_correct"] = None
            if truth:
                scored = plan.truth.files[piece.start + at] is not None and "error" not in told
                # The float network is the same at every bit-width.
                places = {name: place if name.startswith("quantized") else 0 for name in truth}
                told["truth"] = {
                    name: values[places[name], at].item() if scored else None for name, values in truth.items()
                }
            told["faithful"] = {name: None if "error" in told else random.random() for name in plan.faithful_columns}
            told["simulation"] = dict.fromkeys(plan.simulation_columns)
            if variant.deployed and "error" not in told:
                near = {name: random.beta(99, 1) for name in plan.simulation_columns}
                told["simulation"] = near | {"simulated_flipped": bool(random.random() < 0.1)}
            rows.append(StudyRow(*known, piece.protocol, label=image.label, **told))
    return rows


def _numbers(random, bits, own, sure, right):
    """Return the columns of one bit-width, each (pictures,)."""
    drift = np.minimum(random.gamma(1.0, 2.0 ** (-bits), len(sure)), 1.5)
    flipped = random.random(len(sure)) < np.minimum(drift * (1.2 - sure), 1)
    found = {
        "float_probability": sure,
        "quantized_probability": np.clip(sure - drift * random.random(len(sure)), 0, 1),
        "float_correct": right,
        "quantized_correct": right & ~flipped,
        "flipped": flipped,
        "quantized_v_float_sim": 1 - drift / 2,
        "quantized_v_float_cc": 1 - drift,
        "quantized_v_float_kld": drift,
    }
    for metric, values in own.items():
        found[f"float_v_saliency_{metric}"] = values
        moved = values - drift * (random.random(len(sure)) - 0.4)
        found[f"quantized_v_saliency_{metric}"] = np.clip(moved, 0, None if metric == "kld" else 1)
    return found


COST = """
import resource, sys
from pathlib import Path
from quantviz.study.summary import summary
cells = len(summary(Path(sys.argv[1])).cells)
used = resource.getrusage(resource.RUSAGE_SELF)
# ru_maxrss would count what the process that started this one had.
most = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(cells, used.ru_utime + used.ru_stime, int(most.split()[1]) / 1024)
"""


def cost_of_summary(study):
    """Return the cells of a study, the processor's seconds that summing it up takes, and the most MiB."""
    command = [sys.executable, "-c", COST, study]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split()
    return int(told[0]), float(told[1]), float(told[2])
