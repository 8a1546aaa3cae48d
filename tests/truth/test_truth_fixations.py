"""Fixations from tables and MATLAB files."""

from __future__ import annotations

import io
import os
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io
from truth_support import SIZE, TABLE, big_endian, fixations, mat, refused, salicon

from quantviz import truth
from quantviz.truth import matlab, tables

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


def test_one_table_of_many_images_is_parsed_once(tmp_path, effort):
    path = tmp_path / "all.csv"
    path.write_text("image,x,y\n" + "".join(f"{i:05d}.png,{i % 600}.5,7\n" for i in range(50_000)))
    first = truth.read_fixations(path, SIZE, image="00000.png")
    found = []

    def read():
        found.extend(truth.read_fixations(path, SIZE, image=f"{i:05d}.png")[0][0, 0] for i in range(500))

    assert effort(read) < 40
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
    assert "more than 300,000 rows" in refused(read, many)


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
