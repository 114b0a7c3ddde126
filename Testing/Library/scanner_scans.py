"""Whole scans as clinical scanners leave them on a disk, of known attenuation, by the encoders of `scanner_files`."""

import numpy as np
import scanner_files as encode

AIR = 60000.0
ANGLES = np.array([350.0, 40.0, 95.5, 180.0, 271.0])


def attenuation(views, rows, columns):
    """Line integrals [view, v, u] of nothing in particular: different everywhere, with air at the sides."""
    k, v, u = np.indices((views, rows, columns))
    across = np.clip(1 - np.abs(u - columns / 2 - k) / (columns / 2 - 3), 0, None)
    return 2.5 * across * (0.6 + 0.4 * v / rows)


def counts(views, rows, columns):
    """Intensities of `attenuation` as whole numbers below 2**16."""
    return np.rint(AIR * np.exp(-attenuation(views, rows, columns))).astype(np.int32)


def write_elekta(folder, angles=ANGLES, centres=None, side=40):
    """A folder with _Frames.xml and .his; returns the intensities."""
    folder.mkdir(parents=True, exist_ok=True)
    centres = [(115.0 + k, -2.0 * k) for k in range(len(angles))] if centres is None else centres
    images = counts(len(angles), side, side)
    (folder / "_Frames.xml").write_text(encode.frames_xml(angles, centres), encoding="utf-8")
    for k, image in enumerate(images):
        (folder / f"{k + 1:05d}.1.3.46.423632.his").write_bytes(encode.his(65536 - image))
    return images


def write_obi(folder, kind="hnd", angles=ANGLES, xml=None, **header):
    """A folder with ProjectionInfo.xml and a folder Scan0 of .hnd or .hnc files; returns the intensities."""
    (folder / "Scan0").mkdir(parents=True, exist_ok=True)
    images = counts(len(angles), 12, 32)
    (folder / "ProjectionInfo.xml").write_text(encode.projection_info_xml() if xml is None else xml, encoding="utf-8")
    for k, (image, angle) in enumerate(zip(images, angles)):
        (folder / "Scan0" / f"Proj_{k}.{kind}").write_bytes(getattr(encode, kind)(image, angle, **header))
    return images


def xim_properties(angle, **changed):
    """What a .xim file says of itself."""
    said = {"GantryRtn": angle - 90.0, "KVSourceRtn": float(angle), "KVDetectorLat": -16.0, "KVDetectorLng": 0.25, "KVNormChamber": 1000}
    said |= {"PixelWidth": 0.05, "PixelHeight": 0.04, "Operator": "Jane Doe", "Times": [1.0, 2.0], "Codes": [1, 2, 3]}
    return {key: value for key, value in (said | changed).items() if value is not None}


def write_truebeam(folder, angles=ANGLES, monitors=None, compressed=True):
    """A folder with Scan.xml, Acquisitions/733061622/ of .xim files, one without image, and a calibration; returns the counts."""
    projections = folder / "Acquisitions" / "733061622"
    projections.mkdir(parents=True, exist_ok=True)
    images = counts(len(angles), 12, 32)
    (folder / "Scan.xml").write_text(encode.scan_xml(), encoding="utf-8")
    monitors = [1000] * len(angles) if monitors is None else monitors
    for k, (image, angle, monitor) in enumerate(zip(images, angles, monitors)):
        image = np.rint(image * (monitor / 1000)).astype(np.int32)
        said = xim_properties(angle, KVNormChamber=monitor)
        (projections / f"Proj_{k:05d}.xim").write_bytes(encode.xim(image, said, compressed))
    (projections / f"Proj_{len(angles):05d}.xim").write_bytes(encode.xim(np.zeros((0, 0), np.int32), {"KVSourceRtn": 3.0}))
    calibration = folder / "Calibrations" / "AIR"
    calibration.mkdir(parents=True, exist_ok=True)
    (calibration / "Filter.xim").write_bytes(encode.xim(images[0], xim_properties(0)))
    return images


WRITERS = {
    "elekta": write_elekta,
    "hnd": write_obi,
    "hnc": lambda folder: write_obi(folder, "hnc"),
    "xim": write_truebeam,
}
"""Writers of whole scans by the format of their projections."""
