"""Ground truth from untrusted files: fixations, boxes and masks, their pairing with images, and the way to the crop."""

from __future__ import annotations

import io
import os
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantviz import images, truth
from quantviz.specs import GroundTruth, ImageError, Preprocessing
from quantviz.truth import boxes as boxes_module
from quantviz.truth import matlab, tables

SIZE = (480, 640)
PREP = Preprocessing(256, 224, "bilinear", (0.5,) * 3, (0.5,) * 3)


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


# --- fixations from tables


@pytest.mark.parametrize(
    "text",
    [
        "x,y\n10.5,20.25\n600,400\n",
        "y,duration,x\r\n20.25,180,10.5\r\n400,90,600\r\n",
        "10.5,20.25\n600,400\n",
        "10.5;20.25\n600;400",
        "10,5;20,25\n600,0;400,0\n",
        "x\ty\tduration\n10.5\t20.25\t200\n600\t400\t90\n",
        "\ufeffX , Y\n# lost\n\n10.5, 20.25\n 6e2,+400.\n",
        'fix_x,fix_y,text\n10.5,20.25,"a, ""b"""\n600,400,\n',
        "x_px;y_px\n10,5;20,25\n600;400\n",
    ],
)
def test_tables_give_their_points(text):
    points, notes = fixations(text)
    assert points.tolist() == [[10.5, 20.25], [600.0, 400.0]]
    assert points.dtype == np.float64
    assert notes == ()


def test_whole_numbers_are_pixels_and_stand_for_their_centres():
    assert fixations("x,y\n0,0\n639,479\n")[0].tolist() == [[0.5, 0.5], [639.5, 479.5]]
    assert fixations("x,y\n0,0\n10,7.5\n")[0].tolist() == [[0.0, 0.0], [10.0, 7.5]]


def test_lost_samples_and_points_outside_are_left_out_with_a_note():
    points, notes = fixations("x,y\n1.5,2\nNaN,3\n,4\n-4,3\n640,3\n5.5,6\n7.5,480\n8.5,9\n9.5,1\n")
    assert points.tolist() == [[1.5, 2], [5.5, 6], [8.5, 9], [9.5, 1]]
    assert notes == ("2 of 9 rows without coordinates left out", "3 of 7 fixations outside the image left out")
    assert "3 of 4 fixations outside the image's 640 x 480" in refused(
        truth.read_fixations, b"x,y\n1.5,2\n900,3\n900,4\n900,5\n"
    )


TABLE = "image,x,y\na/One.jpg,1.5,2.5\na/two.png,3.5,4.5\na/One.jpg,5.5,6.5\nILSVRC2012_val_00000001,7.5,8.5\n"


def test_rows_of_one_image_are_found_by_stem():
    assert fixations(TABLE, image="One.JPEG")[0].tolist() == [[1.5, 2.5], [5.5, 6.5]]
    assert fixations(TABLE, image="one.png")[0].tolist() == [[1.5, 2.5], [5.5, 6.5]]
    assert fixations(TABLE, image="b/two")[0].tolist() == [[3.5, 4.5]]
    assert fixations(TABLE, image="ILSVRC2012_val_00000001.JPEG")[0].tolist() == [[7.5, 8.5]]
    assert fixations(TABLE.replace("image", "Stimulus"), image="two.png")[0].tolist() == [[3.5, 4.5]]
    assert "no row for image 'three.png'" in refused(truth.read_fixations, TABLE.encode(), image="three.png")
    assert "rows of several images" in refused(truth.read_fixations, TABLE.encode())
    twice = TABLE.replace("a/two.png", "b/One.png").encode()
    assert "several images of stem 'One'" in refused(truth.read_fixations, twice, image="One.jpg")
    assert fixations("x,y\n1.5,2\n", image="any.png")[0].tolist() == [[1.5, 2]]
    assert fixations("image,x,y\nv1.2,1.5,2\nv1.3,3.5,2\n", image="v1.2.png")[0].tolist() == [[1.5, 2]]


def test_one_table_of_many_images_is_parsed_once(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text("image,x,y\n" + "".join(f"{i:05d}.png,{i % 600}.5,7\n" for i in range(50_000)))
    first = truth.read_fixations(path, SIZE, image="00000.png")
    start = time.perf_counter()
    found = [truth.read_fixations(path, SIZE, image=f"{i:05d}.png")[0][0, 0] for i in range(500)]
    assert time.perf_counter() - start < 2
    assert found == [i + 0.5 for i in range(500)]
    path.write_text("x,y\n1.5,2.5\n")
    os.utime(path, ns=(1, 1))
    assert truth.read_fixations(path, SIZE)[0].tolist() == [[1.5, 2.5]]
    assert first[0].tolist() == [[0.5, 7.0]]


def test_tables_that_are_refused(tmp_path):
    read = truth.read_fixations
    assert "does not exist" in refused(read, tmp_path / "gone.csv")
    assert "not a regular file" in refused(read, tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    assert "not a regular file" in refused(read, tmp_path / "pipe.csv")
    os.mkfifo(tmp_path / "pipe.mat")
    assert "not a regular file" in refused(read, tmp_path / "pipe.mat")
    assert "cannot be read" in refused(read, tmp_path / "a\0b.csv")
    assert "empty (0 bytes)" in refused(read, b"")
    assert "16 MiB allowed" in refused(read, b"1,2\n" * (truth.MAX_BYTES // 4 + 1))
    assert "no plain text" in refused(read, "x,y\n1,2\n".encode("utf-16"))
    assert "no plain text" in refused(read, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    assert "'12a' in line 3" in refused(read, b"x,y\n1,2\n12a,3\n")
    assert "'1_0' in line 2" in refused(read, b"x,y\n1_0,3\n")
    assert "'inf' in line 2" in refused(read, b"x,y\ninf,3\n")
    assert "'1e999' in line 1" in refused(read, b"1e999,3\n")
    assert "no column 2 in line 3" in refused(read, b"x,y\n1,2\n3\n")
    assert "has columns 'x, z'" in refused(read, b"x,z\n1,2\n")
    assert "'col' in line 1" in refused(read, b"col,row\n1,2\n")
    assert "holds no row" in refused(read, b"x,y\n")
    assert "holds no fixation" in refused(read, b"x,y\nnan,\n")
    assert "from 0.25 to 0.75; give them in pixels" in refused(read, b"x,y\n0.25,0.5\n0.75,0.5\n")
    assert "no readable CSV" in refused(read, b'x,y\n"' + b"1" * 200_000 + b'",2\n')
    many = b"1,2\n" * (tables.MAX_ROWS + 1)
    assert "more than 1000000 rows" in refused(read, many)


# --- fixations from MATLAB files


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8", "i8"])
def test_matlab_points_count_from_one(compressed, dtype):
    points = np.array([[1, 1], [100, 2], [200, 120]], dtype)
    found, notes = truth.read_fixations(mat(compressed, fixations=points, other=np.eye(3)), SIZE)
    assert found.tolist() == [[0.5, 0.5], [99.5, 1.5], [199.5, 119.5]]
    assert notes == ()


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_fixation_map_gives_its_pixels(compressed):
    where = np.zeros(SIZE, np.uint8)
    where[[10, 200, 479], [639, 20, 0]] = 1
    found, _ = truth.read_fixations(mat(compressed, fixLocs=where), SIZE)
    assert sorted(found.tolist()) == [[0.5, 479.5], [20.5, 200.5], [639.5, 10.5]]
    of_half, _ = truth.read_fixations(mat(compressed, map=where > 0), (240, 320))
    assert sorted(of_half.tolist()) == [[0.25, 239.75], [10.25, 100.25], [319.75, 5.25]]
    refused(truth.read_fixations, mat(fixLocs=where), (480, 480))


@pytest.mark.parametrize("compressed", [False, True])
def test_salicons_layout(compressed):
    data = mat(compressed, **salicon([[[1, 1], [640, 480]], [], [[321, 241]]]))
    found, _ = truth.read_fixations(data, SIZE)
    assert found.tolist() == [[0.5, 0.5], [639.5, 479.5], [320.5, 240.5]]
    halved, _ = truth.read_fixations(data, (240, 320))
    assert np.allclose(halved, found / 2)
    assert "for an image of 640 x 480 pixels, but the image has 500 x 480" in refused(
        truth.read_fixations, data, (480, 500)
    )


def test_cells_of_subjects_and_choice_by_name():
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = np.array([[2.0, 3.0]]), np.array([[4.5, 5.5], [6.0, 7.0]])
    assert truth.read_fixations(mat(eyes=cells), SIZE)[0].tolist() == [[1.5, 2.5], [4, 5], [5.5, 6.5]]
    two = {"first": np.ones((2, 2)), "second": np.ones((3, 2))}
    assert "several variables that may be ('first, second')" in refused(truth.read_fixations, mat(**two))
    assert len(truth.read_fixations(mat(**two, fixations=np.ones((4, 2))), SIZE)[0]) == 4
    assert "none that can be" in refused(truth.read_fixations, mat(image="text", n=np.eye(5) * 2 + 1))


def test_matlab_reader_agrees_with_scipy():
    rng = np.random.default_rng(3)
    variables = {
        "a": rng.normal(size=(3, 4)),
        "b": rng.integers(0, 9, (2, 3, 4)).astype(np.int16),
        "c": np.zeros((0, 3)),
        "d": rng.random((5, 1)) > 0.5,
        "e": np.float32(7.5),
        "long_name_of_a_variable": np.arange(100, dtype=np.uint64),
    }
    for compressed in (False, True):
        data = mat(compressed, **variables)
        ours, theirs = matlab.read_mat(data, "f"), scipy.io.loadmat(io.BytesIO(data))
        for label in variables:
            assert np.array_equal(ours[label], theirs[label])
            assert ours[label].dtype == np.float64


def big_endian(points):
    """A file of one variable xy (n, 2) as a big-endian machine writes it, byte by byte."""

    def element(kind, body):
        return kind.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body + b"\0" * (-len(body) % 8)

    values = np.asarray(points, ">f8")
    parts = element(6, (6).to_bytes(4, "big") + bytes(4)) + element(5, np.array(values.shape, ">i4").tobytes())
    parts += (2).to_bytes(2, "big") + (1).to_bytes(2, "big") + b"xy\0\0" + element(9, values.tobytes(order="F"))
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\0MI" + element(14, parts)


def test_big_endian_file():
    data = big_endian([[2, 3], [4, 5], [6, 7]])
    assert np.array_equal(scipy.io.loadmat(io.BytesIO(data))["xy"], [[2, 3], [4, 5], [6, 7]])
    assert truth.read_fixations(data, SIZE)[0].tolist() == [[1.5, 2.5], [3.5, 4.5], [5.5, 6.5]]


def bomb(size):
    """A compressed variable that decodes to ``size`` zero bytes."""
    body = zlib.compress(bytes(size), 9)
    return mat(a=1)[:128] + (15).to_bytes(4, "little") + len(body).to_bytes(4, "little") + body


def test_matlab_files_that_are_refused(tmp_path):
    read = truth.read_fixations
    new = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    assert "MATLAB 7.3 (HDF5) file, which is not read; save it in MATLAB with" in refused(read, new.ljust(600))
    assert "HDF5" in refused(read, b"\x89HDF\r\n\x1a\n" + bytes(600))
    assert "HDF5" in refused(read, bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(60))
    whole = mat(True, fixations=np.random.default_rng(0).random((50, 2)) * 99)
    assert "compressed variable is incomplete" in refused(
        read, whole[:132] + (100).to_bytes(4, "little") + whole[136:236]
    )
    assert "damaged MATLAB file" in refused(read, whole[:-30])
    assert "none that can be" in refused(read, whole[:128])
    assert "decodes to more than 32 MiB" in refused(read, bomb(10**8))
    assert "fractions" not in refused(read, mat(fixations=np.full((4, 2), 0.25)))
    assert "give them in pixels" in refused(read, mat(fixations=np.full((4, 2), 0.25)))
    deep = np.ones((2, 2))
    for _ in range(30):
        wrapped = np.empty((1, 1), object)
        wrapped[0, 0] = deep
        deep = wrapped
    assert "nested deeper than 8" in refused(read, mat(fixations=deep))
    four = io.BytesIO()
    scipy.io.savemat(four, {"fixations": np.ones((3, 2))}, format="4")
    refused(read, four.getvalue())
    (tmp_path / "a.mat").write_bytes(whole[:100])
    assert "a.mat" in refused(read, tmp_path / "a.mat")


def test_a_bomb_takes_little_memory():
    data = bomb(3 * 10**8)
    tracemalloc.start()
    refused(truth.read_fixations, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * matlab.MAX_DECODED


def test_no_function_of_a_matlab_file_is_called():
    record = np.array([(np.array([[1.0, 2.0]]),)], dtype=[("__class__", "O")])
    assert matlab.read_mat(mat(a=record, text="import os"), "f")["text"] is None


# --- fixation maps and masks from values


def test_fixations_of_a_map():
    values = np.zeros((4, 6))
    values[1, 2] = values[3, 5] = 255
    points, notes = truth.fixations_from_map(values, (8, 12))
    assert points.tolist() == [[5.0, 3.0], [11.0, 7.0]]
    assert notes == ()
    with pytest.raises(ImageError, match="more, so that it is no fixation map"):
        truth.fixations_from_map(np.arange(24.0).reshape(4, 6), (8, 12))
    with pytest.raises(ImageError, match="no fixation"):
        truth.fixations_from_map(np.zeros((4, 6)), (8, 12))
    with pytest.raises(ImageError, match=r"m\.png is for an image of 6 x 4 pixels, but the image has 12 x 12"):
        truth.fixations_from_map(values, (12, 12), name="m.png")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (3, 4), (-1, 0), (0.2, 0.7), (-1e308, 1e308), (0, 5e-324)])
def test_mask_of_two_values_is_where_the_larger_is(low, high):
    where = np.random.default_rng(1).random((9, 7)) < 0.3
    mask, notes = truth.to_mask(np.where(where, float(high), float(low)))
    assert np.array_equal(mask, where)
    assert mask.dtype == np.float32
    assert notes == ()


def test_mask_of_more_values_is_thresholded_and_says_so():
    ramp = np.tile(np.arange(0.0, 101.0), (3, 1))
    mask, notes = truth.to_mask(ramp + 50)
    assert np.array_equal(mask, (ramp > 50).astype(np.float32))
    assert notes == ("thresholded at half of its range, 50 to 150, 78% of it being in between",)
    soft = np.zeros((100, 100))
    soft[30:, 30:], soft[30, 30] = 255, 120
    assert truth.to_mask(soft)[1][0].endswith("0% of it being in between")
    assert not truth.to_mask(np.zeros((3, 4)))[0].any()
    assert truth.to_mask(np.full((3, 4), 255.0))[0].all()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=12))
def test_any_values_give_a_binary_mask(values):
    mask, _ = truth.to_mask(np.array([values]))
    assert set(np.unique(mask)) <= {0.0, 1.0}
    if len(set(values)) > 1:
        assert mask[0, int(np.argmax(values))] == 1.0
        assert mask[0, int(np.argmin(values))] == 0.0


# --- boxes


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


def test_ilsvrc_boxes_hold_their_last_pixel():
    boxes, notes = truth.read_boxes(annotation((111, 108, 407, 359), (0, 0, 499, 374)), (375, 500))
    assert boxes.tolist() == [[111, 108, 408, 360], [0, 0, 500, 375]]
    assert notes == ()


@pytest.mark.parametrize("told", [{"database": "The VOC2007 Database"}, {"folder": "VOC2012"}])
def test_voc_boxes_count_from_one(told):
    boxes, _ = truth.read_boxes(
        b"\xef\xbb\xbf\n" + annotation((1, 1, 500, 375), (48, 240, 195, 371), **told), (375, 500)
    )
    assert boxes.tolist() == [[0, 0, 500, 375], [47, 239, 195, 371]]


def test_boxes_of_another_size_are_scaled():
    data = annotation((10, 20, 99, 49))
    assert truth.read_boxes(data, (750, 1000))[0].tolist() == [[20, 40, 200, 100]]
    assert truth.read_boxes(data.replace(b"500", b"0").replace(b"375", b"0"), (60, 120))[0].tolist() == [
        [10, 20, 100, 50]
    ]
    assert truth.read_boxes(annotation((10, 20, 99, 49), size=None), (60, 120))[0].tolist() == [[10, 20, 100, 50]]
    assert "for an image of 500 x 375 pixels, but the image has 375 x 500" in refused(
        truth.read_boxes, data, (500, 375)
    )


def test_parts_of_objects_are_no_objects():
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    data = annotation((1, 2, 30, 40)).replace(b"</object>", part.encode() + b"</object>")
    assert len(truth.read_boxes(data, (375, 500))[0]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "x0,y0,x1,y1\n10,20,30,40\n1.5,2.5,3.5,4.5\n",
        "label;ymin;xmin;ymax;xmax\ndog;20;10;40;30\ncat;2,5;1,5;4,5;3,5\n",
        "10\t20\t30\t40\n1.5\t2.5\t3.5\t4.5",
        "left,top,right,bottom,score\n10,20,30,40,1\n1.5,2.5,3.5,4.5,1\n",
    ],
)
def test_boxes_of_tables_are_edges(text):
    boxes, notes = truth.read_boxes(text.encode(), SIZE)
    assert boxes.tolist() == [[10, 20, 30, 40], [1.5, 2.5, 3.5, 4.5]]
    assert notes == ()


def test_ilsvrc_localisation_table(tmp_path):
    path = tmp_path / "LOC_val_solution.csv"
    path.write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00048981,n03995372 85 1 499 272 \n"
        "ILSVRC2012_val_00037956,n03481172 131 0 499 254 n03481172 1 2 3 4 \n"
    )
    boxes, _ = truth.read_boxes(path, (375, 500), image="ILSVRC2012_val_00048981.JPEG")
    assert boxes.tolist() == [[85, 1, 500, 273]]
    assert len(truth.read_boxes(path, (375, 500), image="ILSVRC2012_val_00037956.JPEG")[0]) == 2
    assert "no row for image" in refused(truth.read_boxes, path, image="ILSVRC2012_val_00000001.JPEG")
    assert "rows of several images" in refused(truth.read_boxes, path)
    for text in ("n1 1 2 3", "", "n1 1 2 3 x", "n1 1 2 3 nan"):
        assert "line 2" in refused(truth.read_boxes, f"ImageId,PredictionString\na,{text}\n".encode(), image="a.png")


def test_boxes_are_clipped_to_the_image_with_a_note():
    boxes, notes = truth.read_boxes(b"x0,y0,x1,y1\n-9,-9,900,100\n700,5,800,9\n1,2,640.4,4\n", SIZE)
    assert boxes.tolist() == [[0, 0, 640, 100], [1, 2, 640, 4]]
    assert notes == ("1 of 3 boxes outside the image left out", "1 of 3 boxes clipped to the image")
    assert "no box inside the image's 640 x 480" in refused(truth.read_boxes, b"700,5,800,9\n")


BILLION = b"<!DOCTYPE a [<!ENTITY b 'ha'>" + b"".join(
    b"<!ENTITY c%d '%s'>" % (i, b"&c%d;" % (i - 1) * 10 if i else b"&b;" * 10) for i in range(9)
)


@pytest.mark.parametrize(
    "head",
    [
        BILLION + b"]>",
        b"<?xml version='1.0'?><!DOCTYPE annotation SYSTEM 'file:///etc/passwd'>",
        b"<!DOCTYPE annotation [<!ENTITY % x SYSTEM 'file:///etc/passwd'> %x;]>",
        b"<!doctype annotation>",
    ],
)
def test_xml_that_declares_anything_is_refused(head):
    data = head + annotation((1, 2, 30, 40))
    start = time.perf_counter()
    message = refused(truth.read_boxes, data)
    assert "declares a document type or entities" in message or "no readable XML" in message
    refused(truth.read_boxes, data.decode().encode("utf-16"))
    assert time.perf_counter() - start < 1


def test_boxes_that_are_refused(tmp_path):
    read = truth.read_boxes
    assert "does not exist" in refused(read, tmp_path / "gone.xml")
    assert "does not exist" in refused(read, tmp_path / "gone.csv")
    assert "no readable XML" in refused(read, annotation((1, 2, 30, 40))[:-20])
    assert "no readable XML" in refused(read, b"<?xml version='1.0' encoding='klingon'?><annotation/>")
    assert "no object of an annotation" in refused(read, annotation())
    assert "no object of an annotation" in refused(read, b"<html/>")
    assert "without a bndbox" in refused(read, b"<annotation><object/></annotation>")
    assert "has '' where a number is needed" in refused(
        read, b"<annotation><object><bndbox><xmin/></bndbox></object></annotation>"
    )
    assert "has 'nan' where" in refused(read, annotation(("nan", 2, 3, 4)))
    assert "box from (30, 2) to (21, 41), which encloses nothing" in refused(
        read, annotation((30, 2, 20, 40)), (375, 500)
    )
    assert "encloses nothing" in refused(read, b"x0,y0,x1,y1\n1,2,,4\n")
    assert "nested deeper than 16" in refused(read, b"<a>" * 100_000)
    assert "more than 1 MiB" in refused(read, b"<a>" + b" " * boxes_module.MAX_XML_BYTES)
    assert "has columns 'x0, y0'" in refused(read, b"x0,y0\n1,2\n")
    assert "no column 3 in line 1" in refused(read, b"1,2\n")
    assert "16 MiB allowed" in refused(read, b"<" * (truth.MAX_BYTES + 1))


# --- nothing but the project's errors


def outcome(read, data, size):
    """Whether what was read is right, or was refused in one line; any other exception passes."""
    try:
        coordinates, notes = read(data, size, image="a.png")
    except ImageError as error:
        return " ".join(str(error).splitlines()) == str(error)
    corners = coordinates.reshape(-1, 2)
    assert len(corners)
    assert (corners >= 0).all()
    assert (corners <= np.array(size[::-1])).all()
    assert all(isinstance(note, str) for note in notes)
    return True


MAT_SEEDS = [
    mat(fixLocs=np.eye(9, 12, dtype=np.uint8)),
    mat(fixations=np.arange(20.0).reshape(10, 2)),
    mat(**salicon([[[1, 2], [3, 4]], [[5, 6]]], (480, 640))),
    mat(True, **salicon([[[1, 2]]])),
    big_endian([[2, 3], [4, 5]]),
]
TEXT_SEEDS = [
    TABLE.encode(),
    b"x;y\n1,5;2\n3;4\n",
    annotation((1, 2, 30, 40)),
    annotation((1, 1, 30, 40), database="The VOC2007 Database"),
    b"ImageId,PredictionString\na,n1 1 2 3 4\n",
    b"image\tx0\ty0\tx1\ty1\na.png\t1\t2\t3\t4\n",
]


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_files_give_coordinates_or_an_image_error(data):
    content = bytearray(data.draw(st.sampled_from(MAT_SEEDS + TEXT_SEEDS)))
    value = st.one_of(st.sampled_from([0, 1, 2, 14, 15, 127, 128, 255, *b'<>&,;\t\n"']), st.integers(0, 255))
    place = st.integers(min(100, len(content) // 2), len(content) - 1)
    for at, new in data.draw(st.lists(st.tuples(place, value), max_size=8)):
        content[at] = new
    if data.draw(st.booleans()):
        del content[data.draw(place) :]
    for read in (truth.read_fixations, truth.read_boxes):
        assert outcome(read, bytes(content), SIZE)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)), st.sampled_from([b"", b"x,y\n", b"<"])
)
def test_random_bytes_give_coordinates_or_an_image_error(data, head):
    for read in (truth.read_fixations, truth.read_boxes):
        assert outcome(read, head + data, (3, 5))


# --- pairing


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def relative(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_images_are_paired_by_stem(tmp_path):
    touch(tmp_path, "a.png", "deep/er/b.mat", "ILSVRC2012_val_00000001.xml", "Extra.CSV", ".hidden.png", "notes.md")
    pictures = [Path(name) for name in ("x/ILSVRC2012_val_00000001.JPEG", "b.jpg", "a.jpeg", "c.png", "a.jpeg")]
    found = truth.pair(pictures, tmp_path)
    assert [(image.name, file.relative_to(tmp_path).as_posix()) for image, file in found.pairs] == [
        ("a.jpeg", "a.png"),
        ("b.jpg", "deep/er/b.mat"),
        ("ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000001.xml"),
    ]
    assert found.images_without_truth == (Path("c.png"),)
    assert relative(found.truths_without_image, tmp_path) == ["Extra.CSV"]
    assert found.ambiguous == ()


def test_case_must_agree_where_it_can(tmp_path):
    touch(tmp_path, "a.png", "A.mat", "b.csv")
    found = truth.pair([Path("A.jpg"), Path("a.jpg"), Path("B.jpg")], tmp_path)
    assert [(image.name, file.name) for image, file in found.pairs] == [
        ("A.jpg", "A.mat"),
        ("B.jpg", "b.csv"),
        ("a.jpg", "a.png"),
    ]


def test_folders_decide_where_stems_repeat(tmp_path):
    touch(tmp_path, "Action/001.mat", "Indoor/001.mat", "Sketch/001.mat")
    pictures = [Path("stimuli/Action/001.jpg"), Path("stimuli/Indoor/001.jpg"), Path("stimuli/Art/001.jpg")]
    found = truth.pair(pictures[:2], tmp_path)
    assert [(i.parent.name, f.parent.name) for i, f in found.pairs] == [("Action", "Action"), ("Indoor", "Indoor")]
    assert relative(found.truths_without_image, tmp_path) == ["Sketch/001.mat"]
    found = truth.pair(pictures, tmp_path)
    assert len(found.pairs) == 2
    assert [(image, relative(files, tmp_path)) for image, files in found.ambiguous] == [
        (pictures[2], ["Sketch/001.mat"])
    ]
    assert found.truths_without_image == ()


def test_what_folders_do_not_tell_apart_is_ambiguous(tmp_path):
    touch(tmp_path, "001.png", "002.csv", "002.mat")
    pictures = [Path("a/001.jpg"), Path("b/001.jpg"), Path("c/002.jpg")]
    found = truth.pair(pictures, tmp_path)
    assert found.pairs == found.images_without_truth == found.truths_without_image == ()
    assert [(image, relative(files, tmp_path)) for image, files in found.ambiguous] == [
        (pictures[0], ["001.png"]),
        (pictures[1], ["001.png"]),
        (pictures[2], ["002.csv", "002.mat"]),
    ]


def test_folders_that_are_refused(tmp_path):
    for path, what in ((tmp_path / "gone", "does not exist"), (tmp_path, "holds no ground truth")):
        with pytest.raises(ImageError, match=what):
            truth.pair([Path("a.png")], path)
    touch(tmp_path, "a.png")
    with pytest.raises(ImageError, match="is not a folder"):
        truth.pair([Path("a.png")], tmp_path / "a.png")


def test_ten_thousand_images_are_paired_at_once(tmp_path):
    names = [f"{i:05d}" for i in range(10_000)]
    for name in names[::10]:
        (tmp_path / f"{name}.png").touch()
    start = time.perf_counter()
    assert len(truth.pair([Path(f"{name}.jpg") for name in names], tmp_path).pairs) == 1000
    assert time.perf_counter() - start < 3


# --- to the crop


def test_fixations_reach_the_crop():
    points, notes = fixations("x,y\n320,240\n2,3\n900,1\n")
    moved, outside = images.crop_points(points, SIZE, PREP)
    made = truth.to_truth("fixations", moved, (224, 224), source="f.csv", notes=notes, left_out=outside)
    assert isinstance(made, GroundTruth)
    assert np.allclose(made.points, [[320.5 * 341 / 640 - 58, 240.5 * 256 / 480 - 16]])
    assert made.notes == (
        "1 of 3 fixations outside the image left out",
        "1 of 2 fixations outside the crop left out",
    )
    assert (made.kind, made.shape, made.source, made.predicted) == ("fixations", (224, 224), "f.csv", False)
    assert not made.points.flags.writeable
    assert made.boxes is made.values is None


def test_boxes_and_masks_reach_the_crop_at_the_same_place():
    boxes, notes = truth.read_boxes(b"x0,y0,x1,y1\n200,100,400,300\n0,0,40,40\n", SIZE)
    moved, outside = images.crop_boxes(boxes, SIZE, PREP)
    made = truth.to_truth("boxes", moved, (224, 224), source="b.csv", notes=notes, left_out=outside)
    assert made.notes == ("1 of 2 boxes outside the crop left out",)
    painted = np.zeros(SIZE)
    painted[100:300, 200:400] = 255
    mask, _ = truth.to_mask(painted)
    of_mask = truth.to_truth("mask", images.align_mask(mask, SIZE, PREP), (224, 224), source="m.png")
    rows, columns = np.nonzero(of_mask.values)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(made.boxes[0] - edges).max() <= 0.5
    assert of_mask.notes == ()


def test_a_truth_that_holds_nothing_says_so():
    shape = (224, 224)
    none = truth.to_truth("fixations", np.empty((0, 2)), shape, source="f", left_out=7)
    assert none.notes == ("7 of 7 fixations outside the crop left out", "no fixation lies in the crop")
    assert truth.to_truth("boxes", np.empty((0, 4)), shape, source="b").notes == ("no box lies in the crop",)
    assert truth.to_truth("mask", np.zeros(shape), shape, source="m").notes == ("the mask holds no object in the crop",)
    density = truth.to_truth("map", np.zeros(shape), shape, source="unisal", predicted=True)
    assert density.predicted
    assert density.values.dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("map", np.zeros((4, 5))),
        ("mask", np.full((5, 5), 0.5)),
        ("fixations", np.zeros((3, 4))),
        ("fixations", np.array([[5.1, 1]])),
        ("boxes", np.array([[-1.0, 0, 1, 1]])),
    ],
)
def test_callers_mistakes_are_no_user_errors(kind, array):
    with pytest.raises(ValueError, match=kind):
        truth.to_truth(kind, array, (5, 5), source="x")
