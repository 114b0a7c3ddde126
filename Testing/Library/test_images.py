"""Stacks of images: every format and layout gives the same array, and damaged ones are refused by name."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from lab_files import COUNTS, pages, views_as
from PIL import Image

from SparseCTReconLib import InputError
from SparseCTReconLib.formats import images, read_volume


def itk_image(array, **_):
    return sitk.GetImageFromArray(array)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_of_many_pages_is_a_stack(tmp_path, dtype, compression):
    array = (COUNTS % 251).astype(dtype)
    file = pages(tmp_path / "stack.tif", array, compression=compression)
    np.testing.assert_array_equal(images.read_stack([file]), array)


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_a_folder_of_images_is_a_stack_in_the_order_of_their_numbers(tmp_path, ending):
    files = images.images_in(views_as(tmp_path, ending))
    assert [file.stem for file in files] == [f"view_{i}" for i in range(8, 15)]
    np.testing.assert_array_equal(images.read_stack(files), COUNTS)


@pytest.mark.parametrize("ending", ["mha", "nrrd", "nii", "nii.gz", "mhd", "nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
def test_images_of_itk_are_stacks(tmp_path, ending, compressed):
    sitk.WriteImage(itk_image(COUNTS), str(tmp_path / f"stack.{ending}"), compressed)
    file = tmp_path / f"stack.{ending}"
    assert images.kind_of(file) == "itk"
    np.testing.assert_array_equal(images.read_stack([file]), COUNTS)


@pytest.mark.parametrize(("mark", "order"), [("<", "little"), (">", "big")])
def test_bare_numbers_are_read_as_described(tmp_path, mark, order):
    file = tmp_path / "stack.raw"
    file.write_bytes(b"x" * 13 + COUNTS.astype(mark + "u2").tobytes())
    raw = {"columns": 8, "rows": 6, "type": "uint16", "byte_order": order, "header_bytes": 13}
    np.testing.assert_array_equal(images.read_stack([file], raw), COUNTS)
    with pytest.raises(InputError, match="cut short, or described wrongly"):
        images.read_stack([file], raw | {"columns": 9})


def test_an_array_of_numpys_is_a_stack(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(COUNTS))
    np.testing.assert_array_equal(images.read_stack([tmp_path / "a.npy"]), COUNTS)


def test_an_images_kind_is_told_from_its_content(tmp_path):
    pages(tmp_path / "stack.tif").rename(tmp_path / "stack.dat")
    np.testing.assert_array_equal(images.read_stack([tmp_path / "stack.dat"]), COUNTS)
    (tmp_path / "note.tif").write_text("no image")
    assert images.images_in(tmp_path) == [tmp_path / "stack.dat"]


def test_a_view_that_is_there_twice_is_refused(tmp_path):
    views_as(tmp_path)
    Image.fromarray(COUNTS[0]).save(tmp_path / "view_08.tif")
    with pytest.raises(InputError, match="the same view twice"):
        images.images_in(tmp_path)


def test_a_gap_in_the_numbers_is_named(tmp_path):
    views_as(tmp_path, name="view_{:04d}")
    assert images.missing_among(images.images_in(tmp_path)) == ""
    (tmp_path / "view_0011.tif").unlink()
    assert images.missing_among(images.images_in(tmp_path)) == "view_0011.tif"


def test_views_of_another_size_or_colour_are_named(tmp_path):
    views_as(tmp_path)
    Image.fromarray(COUNTS[0, :3]).save(tmp_path / "view_10.tif")
    with pytest.raises(InputError, match=r"view_10\.tif holds an image of \(3, 8\)"):
        images.read_stack(images.images_in(tmp_path))
    Image.new("RGB", (8, 6)).save(tmp_path / "view_10.tif")
    with pytest.raises(InputError, match="colour image"):
        images.read_stack(images.images_in(tmp_path))
    (tmp_path / "view_10.tif").unlink()
    with pytest.raises(InputError, match="is missing"):
        images.read_stack([tmp_path / "view_9.tif", tmp_path / "view_10.tif"])


@pytest.mark.parametrize("ending", ["tif", "png", "mha", "nrrd", "nii", "nii.gz", "npy"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, ending):
    file = tmp_path / f"stack.{ending}"
    if ending == "npy":
        np.save(file, COUNTS)
    elif ending in ("tif", "png"):
        pages(file, COUNTS if ending == "tif" else COUNTS[:1])
    else:
        sitk.WriteImage(itk_image(COUNTS), str(file), False)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 3 // 5])
    with pytest.raises(InputError, match=f"stack.{ending}"):
        images.read_stack([file])


def absurd_png():
    header = b"IHDR" + struct.pack(">IIBBBBB", 1_000_000, 1_000_000, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + b"\0" * 40


ABSURD = {
    "png": absurd_png(),
    "nrrd": b"NRRD0004\ntype: ushort\ndimension: 3\nsizes: 90000 90000 90000\nencoding: raw\nendian: little\n\n" + b"\0" * 64,
    "mha": b"ObjectType = Image\nNDims = 3\nDimSize = 90000 90000 9000\nElementType = MET_USHORT\nElementDataFile = LOCAL\n" + b"\0" * 64,
    "npy": b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (900000, 900000, 9000), }".ljust(128) + b"\0" * 64,
}


@pytest.mark.parametrize("count", ["99999999999999999999", "-1", "0", "x", ""])
def test_a_metaimage_of_absurd_dimensions_never_reaches_itk_which_would_crash(tmp_path, count):
    sitk.WriteImage(itk_image(COUNTS), str(tmp_path / "a.mha"))
    whole = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(whole.replace(b"NDims = 3", f"NDims = {count}".encode()))
    for read in (lambda path: images.read_stack([path]), read_volume):
        with pytest.raises(InputError, match="dimensions"):
            read(tmp_path / "a.mha")


@pytest.mark.parametrize("ending", ABSURD)
def test_a_header_that_claims_more_than_there_is_allocates_nothing(tmp_path, ending):
    file = tmp_path / f"stack.{ending}"
    file.write_bytes(ABSURD[ending])
    with pytest.raises(InputError, match=f"stack.{ending}"):
        images.read_stack([file])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mhd", "ObjectType = Image\nNDims = 3\nDimSize = 8 6 7\nElementType = MET_USHORT\nElementDataFile = {}\n"),
        ("a.nhdr", "NRRD0004\ntype: ushort\ndimension: 3\nsizes: 8 6 7\nencoding: raw\nendian: little\ndata file: {}\n"),
    ],
)
def test_a_header_that_points_out_of_its_folder_is_refused(tmp_path, name, text):
    (tmp_path / "secret.raw").write_bytes(COUNTS.tobytes())
    inner = tmp_path / "inner"
    inner.mkdir()
    for place in ("../secret.raw", str(tmp_path / "secret.raw")):
        (inner / name).write_text(text.format(place))
        with pytest.raises(InputError, match="outside its folder"):
            images.read_stack([inner / name])


def test_a_gzip_bomb_is_refused(tmp_path):
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 20000, 20000, 20000, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(header) + bytes(4096)))
    with pytest.raises(InputError, match=r"claims 20000 x 20000 x 20000 pixels"):
        images.read_stack([tmp_path / "a.nii.gz"])


@pytest.mark.parametrize(("stack", "preview"), [("tif", "png"), ("png", "tif")])
def test_a_preview_beside_a_stack_is_not_taken_for_it(tmp_path, stack, preview):
    Image.fromarray(np.random.default_rng(0).integers(0, 60_000, (40, 50), dtype=np.uint16)).save(tmp_path / f"scan.{stack}")
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / f"preview.{preview}")
    assert [file.name for file in images.images_in(tmp_path)] == [f"scan.{stack}"]
