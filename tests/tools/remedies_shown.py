"""Plant faults in real networks' ONNX files, try the remedy of each, and write what it did on held-out pictures.

`python tests/tools/remedies_shown.py --seeds 40 41 --out FOLDER` plants each cause at its middle strength, diagnoses
every other picture, mends the planted tensor by the cause's own remedy, and measures the pictures between. The table
has one row a cause: drift before and after, pooled over networks, seeds and pictures, and the 95 % interval of the
paired change by bootstrap.
"""

import argparse
import json
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import planted_onnx
import planted_torch
from planted_faults import CALIBRATION, DATA, NETWORKS, network

from quantviz.comparison.files_request import FilesRequest
from quantviz.layerwise.diagnosis.causes import CAUSES
from quantviz.layerwise.diagnosis.files_remedies import FILE_REMEDIES, INSTEAD, try_file_remedy
from quantviz.layerwise.pictures import dataset
from quantviz.specs import UsageError
from quantviz.statistics import paired

MIDDLE = 1


def pictures(count):
    samples = dataset(DATA / "imagenet-sample" / "val")
    return samples[3 :: max(1, len(samples) // count)][:count]


def remedy_of(cause):
    own = CAUSES[cause].remedy
    return own if own in FILE_REMEDIES else INSTEAD.get(own, own)


def cases(name, seeds, folder, samples):
    """Yield one row a case: cause, remedy, and each held-out picture's drift before and after."""
    module, _, inputs = network(name)
    calibration = [entry.numpy() for entry in inputs(CALIBRATION)]
    sound = planted_onnx.Sound(name, module, calibration, folder, DATA)
    for cause in planted_torch.CAUSES:
        for seed in seeds:
            first, second, tensor = planted_onnx.plant(sound, cause, MIDDLE, seed)
            planted_onnx.pair(first, second, folder)
            files = FilesRequest(folder / "planted.float.onnx", (folder / "planted.int8.onnx",))
            row = {"network": name, "cause": cause, "seed": seed, "tensor": tensor, "remedy": remedy_of(cause)}
            try:
                trial = try_file_remedy(files, samples, tensor, row["remedy"]).trial
            except UsageError as error:
                yield row | {"refused": str(error)}
                continue
            for side, one in (("before", trial.before), ("after", trial.after)):
                row |= {side: one.drift.cams, f"{side}_flips": one.drift.flips, f"{side}_accuracy": one.drift.accuracy}
            yield row


def table(rows):
    """Return the table of a report in Markdown."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["cause"], row["remedy"]].append(row)
    heads = ["planted cause", "remedy", "cases", "drift before", "after", "change, 95 % interval", "flips", "top-1"]
    lines = [f"| {' | '.join(heads)} |", "| --- | --- | ---: | ---: | ---: | --- | --- | --- |"]
    for (cause, remedy), group in sorted(groups.items()):
        tried = [row for row in group if "refused" not in row]
        if not tried:
            lines.append(f"| {cause} | {remedy} | 0 | | | cannot be tried by an edit | | |")
            continue
        before, after = (np.array([x for row in tried for x in row[side]], float) for side in ("before", "after"))
        found = paired(after, before, margin=0.01)
        ends = f"{found.interval.low:+.4f} to {found.interval.high:+.4f}" if found.interval else "-"
        numbers = f"{np.nanmean(before):.4f} | {np.nanmean(after):.4f} | {found.mean:+.4f}, {ends}"
        rates = [
            " to ".join(f"{np.mean([row[f'{side}_{what}'] for row in tried]):.1%}" for side in ("before", "after"))
            for what in ("flips", "accuracy")
        ]
        lines.append(f"| {cause} | {remedy} | {len(tried)} | {numbers} | {rates[0]} | {rates[1]} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[40, 41])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    samples, rows = pictures(given.pictures), []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.networks:
            rows += cases(name, given.seeds, Path(folder), samples)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "remedies.json").write_text(json.dumps(rows, indent=1))
    print(table(rows))
    for row in rows:
        if "refused" in row:
            print(row["network"], row["cause"], row["seed"], row["refused"])


if __name__ == "__main__":
    main()
