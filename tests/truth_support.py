"""What the tests of ground truth share: files of every kind, and reading them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.io

from quantviz import truth
from quantviz.specs import ImageError

SIZE = (480, 640)


def refused(read, source, size=SIZE, **options):
    with pytest.raises(ImageError) as caught:
        read(source, size, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 400
    return message


def fixations(text, **options):
    return truth.read_fixations(text.encode(), SIZE, **options)


def mat(compressed=False, **variables):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, do_compression=compressed)
    return buffer.getvalue()


def salicon(subjects, resolution=SIZE):
    """A file as SALICON's: a struct array of one element for each subject."""
    gaze = np.zeros((len(subjects), 1), dtype=[("location", "O"), ("timestamp", "O"), ("fixations", "O")])
    for i, points in enumerate(subjects):
        gaze[i, 0] = (np.ones((30, 2)), np.arange(30.0)[:, None], np.asarray(points, np.float64).reshape(-1, 2))
    return {"image": "COCO_val2014_000000000042", "resolution": [list(map(float, resolution))], "gaze": gaze}


TABLE = "image,x,y\na/One.jpg,1.5,2.5\na/two.png,3.5,4.5\na/One.jpg,5.5,6.5\nILSVRC2012_val_00000001,7.5,8.5\n"


def big_endian(points):
    """A file of one variable xy (n, 2) as a big-endian machine writes it, byte by byte."""

    def element(kind, body):
        return kind.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body + b"\0" * (-len(body) % 8)

    values = np.asarray(points, ">f8")
    parts = element(6, (6).to_bytes(4, "big") + bytes(4)) + element(5, np.array(values.shape, ">i4").tobytes())
    parts += (2).to_bytes(2, "big") + (1).to_bytes(2, "big") + b"xy\0\0" + element(9, values.tobytes(order="F"))
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\0MI" + element(14, parts)


def annotation(*boxes, size=(500, 375), database="ILSVRC_2012", folder="val", extra=""):
    objects = "".join(
        f"<object><name>n01440764</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for a, b, c, d in boxes
    )
    dimensions = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return (
        f"<annotation><folder>{folder}</folder><filename>ILSVRC2012_val_00000001</filename><source><database>{database}"
        f"</database></source>{dimensions}{extra}{objects}</annotation>"
    ).encode()
