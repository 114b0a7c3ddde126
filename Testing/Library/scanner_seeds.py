"""Small valid scans of clinical scanners for `reader_seeds`: what to open, and which of its files are worth breaking."""

import numpy as np
import scanner_files
import scanner_scans
import xray_runs

IMAGES = scanner_scans.counts(4, 6, 8)


def elekta(folder):
    scanner_scans.write_elekta(folder, side=20)
    return folder, [folder / "_Frames.xml", folder / "00002.1.3.46.423632.his"]


def _obi(kind):
    def write(folder):
        scanner_scans.write_obi(folder, kind)
        return folder, [folder / "ProjectionInfo.xml", folder / "Scan0" / f"Proj_1.{kind}"]

    return write


def xim(folder):
    scanner_scans.write_truebeam(folder)
    return folder, [folder / "Scan.xml", folder / "Acquisitions" / "733061622" / "Proj_00002.xim"]


def plain_xim(folder):
    """One that is not compressed stands among others."""
    scanner_scans.write_truebeam(folder)
    file = folder / "Acquisitions" / "733061622" / "Proj_00001.xim"
    file.write_bytes(scanner_files.xim(scanner_scans.counts(5, 12, 32)[1], scanner_scans.xim_properties(40), compressed=False))
    return folder, [file]


def _run(syntax):
    def write(folder):
        file = folder / "run.dcm"
        file.write_bytes(xray_runs.run(IMAGES, [0, 50, 100, 150], syntax=syntax))
        return file, [file]

    return write


def enhanced_run(folder):
    file = folder / "enhanced.dcm"
    file.write_bytes(xray_runs.enhanced(IMAGES, [(20.0 * k, 0.0) for k in range(4)]))
    return file, [file]


def looked_up_run(folder):
    lut = xray_runs.item((0x00283002, "US", [256, 0, 16]), (0x00283006, "OW", np.arange(256, dtype="<u2").tobytes()))
    file = folder / "run.dcm"
    file.write_bytes(xray_runs.run(IMAGES // 256, [30], t00281040=("CS", "LOG"), t00283000=("SQ", [lut])))
    return file, [file]


SEEDS = {
    "Elekta": elekta,
    "Varian .hnd": _obi("hnd"),
    "Varian .hnc": _obi("hnc"),
    "Varian .xim": xim,
    "Varian .xim, plain": plain_xim,
    "DICOM": _run(xray_runs.EXPLICIT),
    "DICOM, run length": _run(xray_runs.RLE),
    "DICOM, enhanced": enhanced_run,
    "DICOM, looked up": looked_up_run,
}
