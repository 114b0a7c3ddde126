"""A small valid scan for each reader: what to open, and which of its files are worth breaking.

To have a reader fuzzed, add a function that writes a scan into a folder and returns the path to open and the files to break.
"""

import lab_files
import numpy as np
import scan_files
import scanner_seeds
import SimpleITK as sitk

from SparseCTReconLib import Geometry, Scan
from SparseCTReconLib.formats import rtk, write_scan


def _geometry():
    return Geometry.circular(scan_files.VIEWS, 500, 800, scan_files.SHAPE, (2.0, 2.0))


def scan_folder(folder):
    write_scan(Scan(scan_files.projections(), _geometry()), folder / "scan")
    return folder / "scan", [folder / "scan" / name for name in ("scan.json", "geometry.xml", "projections.mha")]


def rtk_scan(folder):
    rtk.write_xml(rtk.from_geometry(_geometry()), folder / "gantry.xml")
    sitk.WriteImage(sitk.GetImageFromArray(scan_files.projections()), str(folder / "stack.nrrd"), True)
    return folder / "gantry.xml", [folder / "gantry.xml", folder / "stack.nrrd"]


def naf(folder):
    file = scan_files.naf(folder / "chest.pickle")
    return file, [file]


def r2_gaussian(folder):
    scan_files.r2_gaussian(folder / "chest")
    return folder / "chest", [folder / "chest" / "meta_data.json", folder / "chest" / "proj_train" / "proj_train_0002.npy"]


def deepsparse(folder):
    file = scan_files.deepsparse(folder)
    return file, [file, folder / "config.yaml"]


def tigre_mat(folder):
    file = scan_files.tigre_mat(folder / "scan.mat", compressed=False)
    return file, [file]


def tigre_packed_mat(folder):
    file = scan_files.tigre_mat(folder / "scan.mat")
    return file, [file]


def tigre_json(folder):
    file = scan_files.tigre_json(folder)
    return file, [file, folder / "angles.npy", folder / "projections.npy"]


def tigre_npz(folder):
    file = scan_files.tigre_npz(folder / "scan.npz")
    return file, [file]


def lab_yaml(folder):
    np.save(folder / "stack.npy", lab_files.COUNTS)
    file = lab_files.described(folder, projections="stack.npy")
    return file, [file, folder / "stack.npy"]


def lab_vectors(folder):
    lab_files.pages(folder / "stack.tif", compression="tiff_lzw")
    table = folder / "vectors.csv"
    table.write_text("\n".join(",".join(map(str, row)) for row in lab_files.cone_vectors().tolist()) + "\n")
    return table, [table, folder / "stack.tif"]


def _lab_images(ending, packed):
    def write(folder):
        stack = folder / f"stack.{ending}"
        if ending == "png":
            lab_files.views_as(folder, "png")
        else:
            sitk.WriteImage(sitk.GetImageFromArray(lab_files.COUNTS), str(stack), packed)
        return lab_files.described(folder), [folder / "view_10.png" if ending == "png" else stack]

    return write


SEEDS = {
    "scan folder": scan_folder,
    "RTK": rtk_scan,
    "NAF": naf,
    "R2-Gaussian": r2_gaussian,
    "DeepSparse": deepsparse,
    "TIGRE .mat": tigre_mat,
    "TIGRE .mat, packed": tigre_packed_mat,
    "TIGRE .json and .npy": tigre_json,
    "TIGRE .npz": tigre_npz,
    "lab: YAML and .npy": lab_yaml,
    "lab: CSV and TIFF": lab_vectors,
    "lab: PNG": _lab_images("png", False),
    "lab: NRRD": _lab_images("nrrd", True),
    "lab: MetaImage": _lab_images("mha", False),
    "lab: NIfTI": _lab_images("nii", False),
    "lab: NIfTI, packed": _lab_images("nii.gz", True),
} | scanner_seeds.SEEDS
