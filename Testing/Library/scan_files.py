"""Scans as other codes write them: each function here writes a small one, from the format's description and not by the code under test."""

import io
import json
import pickle

import numpy as np
import scipy.io

VIEWS, ROWS, COLUMNS = 7, 6, 8
SHAPE = (ROWS, COLUMNS)


def angles_of(views=VIEWS):
    """Radians, uneven."""
    return np.linspace(0.1, 5.5, views) + 0.05 * np.sin(np.arange(views))


def projections(views=VIEWS, shape=SHAPE, dtype=np.float32, seed=0):
    """Line integrals that no reader finds odd; no two pixels are alike."""
    return np.random.default_rng(seed).uniform(0.1, 2.0, (views, *shape)).astype(dtype)


def naf(path, views=VIEWS, protocol=pickle.HIGHEST_PROTOCOL, **changes):
    """A pickle of NAF's generator: its configuration, then the volume, then what was projected."""
    data = {
        "numTrain": views,
        "numVal": 2,
        "DSD": 1500.0,
        "DSO": 1000.0,
        "nDetector": list(SHAPE),
        "dDetector": [2.0, 1.5],
        "nVoxel": [4, 5, 6],
        "dVoxel": [1.0, 1.0, 2.0],
        "offOrigin": [0, 0, 0],
        "offDetector": [3.0, 0],
        "accuracy": 0.5,
        "mode": "cone",
        "filter": None,
        "totalAngle": 180.0,
        "startAngle": 0.0,
        "randomAngle": False,
        "convert": True,
        "rescale_slope": 1.0,
        "rescale_intercept": -1024.0,
        "normalize": True,
        "noise": 0.02,
        "image": np.linspace(0, 1, 120, dtype=np.float64).reshape(4, 5, 6),
        "train": {"angles": angles_of(views), "projections": projections(views)[:, ::-1, :]},
        "val": {"angles": angles_of(2), "projections": projections(2)},
    } | changes
    path.write_bytes(pickle.dumps({key: value for key, value in data.items() if value is not ...}, protocol))
    return path


def r2_gaussian(folder, views=VIEWS, frames=None, **scanner):
    """A folder of R2-Gaussian's generator."""
    values = {
        "mode": "cone",
        "filter": None,
        "DSD": 7.0,
        "DSO": 5.0,
        "nDetector": list(SHAPE),
        "sDetector": [4.0, 3.0],
        "nVoxel": [4, 5, 6],
        "sVoxel": [2.0, 2.0, 2.0],
        "offOrigin": [0, 0, 0],
        "offDetector": [0, 0],
        "accuracy": 0.5,
        "totalAngle": 360.0,
        "startAngle": 0.0,
        "noise": True,
    } | scanner
    (folder / "proj_train").mkdir(parents=True)
    names = [f"proj_train/proj_train_{i:04d}.npy" for i in range(views)]
    for name, image in zip(names, projections(views)):
        np.save(folder / name, image)
    listed = [{"file_path": name, "angle": float(angle)} for name, angle in zip(names, angles_of(views))]
    meta = {
        "scanner": {key: value for key, value in values.items() if value is not ...},
        "vol": "vol_gt.npy",
        "bbox": [[-1, -1, -1], [1, 1, 1]],
        "proj_train": listed if frames is None else frames(listed),
        "proj_test": [],
    }
    (folder / "meta_data.json").write_text(json.dumps(meta, indent=4))
    return folder


CONFIG = """\
dataset:
  spacing: [1.6, 1.6, 1.6] # [x, y, z], mm
  value_range: [-1000, {high}] # [min, max], HU scale
  resolution: [256, 256, 256]
projector:
  n_porjections: {views}
  DSD: {dsd}
  DSO: 800 # distance source origin   (mm)
  nDetector: [{rows}, {columns}]
  dDetector: [2.4, 2.0]
  nVoxel: [4, 5, 6]
  dVoxel: [1.6, 1.6, 1.6]
  offOrigin: [0, 0, 0]
  offDetector: [0, 0]
  accuracy: 0.5
  mode: cone
  filter: null
  total_angle: 180
  start_angle: 0
"""


def deepsparse(folder, name="P1", dsd=1200, high=1000, views=VIEWS, **changes):
    """A data set with one patient, as DeepSparse's saver writes it; returns the patient's pickle."""
    path = folder / "processed" / "projections" / f"{name}.pickle"
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG.format(dsd=dsd, high=high, views=views, rows=ROWS, columns=COLUMNS))
    listed = {"dataset_config": "./config.yaml", "projs": "processed/projections/{}.pickle", "train": [name], "eval": [], "test": ["P9"]}
    (folder / "meta_info.json").write_text(json.dumps(listed))
    values = projections(views)
    top = values.max()
    data = {"projs": (values / top * 255).astype(np.uint8), "projs_max": top, "angles": angles_of(views)} | changes
    path.write_bytes(pickle.dumps(data, pickle.HIGHEST_PROTOCOL))
    return path


def tigre_attributes(**changes):
    """A geometry of TIGRE's for Python: lengths as (v, u), all that can be turned and moved."""
    return {
        "DSD": 1536.0,
        "DSO": 1000.0,
        "nDetector": np.array(SHAPE),
        "dDetector": np.array([0.8, 0.9]),
        "nVoxel": np.array([4, 5, 6]),
        "offOrigin": np.array([0, 0, 0]),
        "offDetector": np.array([4.0, -7.0]),
        "rotDetector": np.array([0.02, -0.03, 0.05]),
        "COR": 1.5,
        "mode": "cone",
        "accuracy": 0.5,
        "filter": None,
    } | changes


def tigre_json(folder, **changes):
    """geometry.json with projections.npy and angles.npy beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {key: getattr(value, "tolist", lambda value=value: value)() for key, value in tigre_attributes(**changes).items()}
    (folder / "geometry.json").write_text(json.dumps(plain))
    np.save(folder / "projections.npy", projections())
    np.save(folder / "angles.npy", angles_of())
    return folder / "geometry.json"


def tigre_mat(path, compressed=True, **changes):
    """A MATLAB file as TIGRE's users save it: lengths as columns (u, v), projections (v, u, view)."""
    python = tigre_attributes(**changes)
    swapped = {"nDetector", "dDetector", "offDetector"}
    geo = {key: np.reshape(value[::-1] if key in swapped else value, (-1, 1)).astype(float)
           for key, value in python.items() if isinstance(value, np.ndarray)}  # fmt: skip
    geo |= {key: float(python[key]) for key in ("DSD", "DSO", "COR", "accuracy")} | {"mode": python["mode"]}
    variables = {"geo": geo, "angles": angles_of()[None], "projections": projections().transpose(1, 2, 0)}
    scipy.io.savemat(path, variables, do_compression=compressed)
    return path


def tigre_npz(path, **changes):
    """All in one archive."""
    held = {key: value for key, value in tigre_attributes(**changes).items() if value is not None and key != "mode"}
    np.savez_compressed(path, angles=angles_of(), projections=projections(), **held)
    return path


def npy_bytes(array):
    """What numpy writes of an array."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
