"""Plant known faults in real networks, diagnose them, and write how often tensor and cause are found.

Rules are tuned on the seeds 0 and 1 and reported on others: `python tests/tools/planted_faults.py --seeds 2 3 --out
FOLDER` plants each cause at three strengths in three networks, in torch and in ONNX files, one case a seed each.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import planted_onnx
import planted_torch

from quantviz import images, networks
from quantviz.layerwise.diagnosis.causes import causes
from quantviz.layerwise.diagnosis.files import diagnose_pair
from quantviz.layerwise.diagnosis.files_structure import blocks_of_files, file_findings
from quantviz.layerwise.diagnosis.simulation import diagnose_modules
from quantviz.layerwise.diagnosis.specs import Diagnosis
from quantviz.layerwise.diagnosis.structure import blocks_of, module_findings
from quantviz.networks.build import build

DATA = Path(os.environ.get("QUANTVIZ_REAL_DATA", Path(__file__).parents[3] / "shared/data"))
NETWORKS = ("squeezenet1_1", "mobilenet_v2", "efficientnet_lite0")
KERNELS = "x86_64 avx512_vnni"  # so that the processor decides nothing
CALIBRATION, TEST, SOUND = slice(0, 160, 10), slice(5, 200, 50), 6


def ranked(tensors, findings, blocks):
    found = causes(tensors, findings, blocks)
    made = Diagnosis("", "simulation", "", {}, (), tuple(tensors), tuple(found))
    return made.ranking[0], {cause.tensor: cause.cause for cause in found}


def in_torch(reference, quantized, pictures):
    tensors = diagnose_modules(reference, quantized, pictures)
    findings = module_findings(reference, quantized, tensors, pictures[0])
    return ranked(tensors, findings, blocks_of(quantized, pictures[0]))


def in_files(pair, pictures):
    tensors = diagnose_pair(pair, pictures, threads=1)
    return ranked(tensors, file_findings(pair, KERNELS), blocks_of_files(pair))


def network(name):
    """Return a network with real weights, and functions to its pictures."""
    spec = networks.spec(name)
    own = DATA / "weights" / f"{name}.safetensors"
    module, ref = build(spec, networks.resolve(spec, str(own) if own.exists() else None))
    files = sorted((DATA / "imagenet-sample" / "val").rglob("*.JPEG"))

    def inputs(places):
        crops = (images.crop(images.load(file).rgb, ref.preprocessing) for file in files[places])
        return [torch.from_numpy(images.normalize(crop, ref.preprocessing)) for crop in crops]

    return module, spec.layer, inputs


def cases(name, seeds, folder, kinds=("torch", "onnx"), strengths=range(3), sound_sets=SOUND):
    """Yield one row a case: kind, network, cause, strength, seed, and whether tensor and cause were found."""
    module, layer, inputs = network(name)
    calibration, test = inputs(CALIBRATION), inputs(TEST)
    for kind in kinds:
        if kind == "torch":
            sound = planted_torch.Sound(module, calibration, layer)
            plant, judge, pictures = planted_torch.plant, in_torch, test
        else:
            sound = planted_onnx.Sound(name, module, [entry.numpy() for entry in calibration], folder, DATA)
            plant, judge, pictures = (
                planted_onnx.plant,
                lambda a, b, p: in_files(planted_onnx.pair(a, b, folder), p),
                [entry.numpy() for entry in test],
            )
        for place in range(sound_sets):
            chosen = inputs(slice(3 + place * 7, 200, 60))
            chosen = chosen if kind == "torch" else [entry.numpy() for entry in chosen]
            _, claimed = judge(*sound.pair(), chosen) if kind == "onnx" else judge(sound.base, sound.quantized, chosen)
            yield {"kind": kind, "network": name, "cause": "", "seed": place, "claimed": claimed}
        for cause in planted_torch.CAUSES:
            for strength in strengths:
                for seed in seeds:
                    reference, quantized, tensor = plant(sound, cause, strength, seed)
                    first, claimed = judge(reference, quantized, pictures)
                    yield {
                        "kind": kind,
                        "network": name,
                        "cause": cause,
                        "strength": strength,
                        "seed": seed,
                        "tensor": tensor,
                        "first": first,
                        "named": claimed.get(tensor, ""),
                        "claimed": claimed,
                    }


def table(rows):
    """Return the table of a report in Markdown."""
    planted, sound = [row for row in rows if row["cause"]], [row for row in rows if not row["cause"]]
    groups = defaultdict(list)
    for row in planted:
        groups[row["cause"], row["kind"]].append(row)
    lines = ["| planted cause | in | cases | tensor first | cause named |", "| --- | --- | ---: | ---: | ---: |"]
    for (cause, kind), group in sorted(groups.items()):
        lines.append(f"| {cause} | {kind} | {len(group)} | {rate(group, first)} | {rate(group, named)} |")
    lines.append(f"| all | both | {len(planted)} | {rate(planted, first)} | {rate(planted, named)} |")
    wrong = [row for row in sound if row["claimed"]]
    lines.append(f"\nOn {len(sound)} sound networks a cause is claimed in {len(wrong)}.")
    return "\n".join(lines)


def first(row):
    return row["first"] == row["tensor"]


def named(row):
    return row["named"] == row["cause"]


def rate(rows, holds):
    return f"{sum(map(holds, rows)) / len(rows):.1%}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--kinds", nargs="+", default=["torch", "onnx"])
    parser.add_argument("--strengths", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--merge", action="store_true", help="write the table of the rows that lie in --out already")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if given.merge:
        files = sorted(given.out.glob("rows_*.json"))
        print(table([row for file in files for row in json.loads(file.read_text())]))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.networks:
            for row in cases(name, given.seeds, Path(folder), given.kinds, given.strengths):
                rows.append(row)
                if row["cause"] and not (first(row) and named(row)):
                    print(
                        "missed",
                        {key: row[key] for key in row if key != "claimed"},
                        dict(list(row["claimed"].items())[:4]),
                        flush=True,
                    )
                elif not row["cause"] and row["claimed"]:
                    print("claimed", row, flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    label = "_".join([*given.kinds, *given.networks])
    (given.out / f"rows_{label}.json").write_text(json.dumps(rows, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
