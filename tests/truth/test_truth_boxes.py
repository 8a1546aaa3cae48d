"""Boxes from ILSVRC and VOC annotations and from tables."""

from __future__ import annotations

import pytest
from truth_support import SIZE, annotation, refused

from quantviz import truth
from quantviz.truth import boxes as boxes_module


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
def test_xml_that_declares_anything_is_refused(head, effort):
    data, told = head + annotation((1, 2, 30, 40)), []
    assert effort(lambda: told.append(refused(truth.read_boxes, data))) < 20
    assert "declares a document type or entities" in told[0] or "no readable XML" in told[0]
    assert effort(lambda: refused(truth.read_boxes, data.decode().encode("utf-16"))) < 20


def test_boxes_that_are_refused(tmp_path):
    read = truth.read_boxes
    assert "does not exist" in refused(read, tmp_path / "gone.xml")
    assert "does not exist" in refused(read, tmp_path / "gone.csv")
    assert "no readable XML" in refused(read, annotation((1, 2, 30, 40))[:-20])
    assert "no readable XML" in refused(read, b"<?xml version='1.0' encoding='klingon'?><annotation/>")
    assert "no object of an annotation" in refused(read, annotation())
    assert "no object of an annotation" in refused(read, b"<page/>")
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
