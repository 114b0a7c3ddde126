"""A TotalSegmentator that segments by HU, writes label maps as the real one does, and misbehaves as PLAYED_SEGMENTER says.

Its words are those of the real one (2.18). PLAYED_CALLS names a file where it notes, a JSON line each, how it was called.
"""

import argparse
import gzip
import json
import os
import struct
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK

ORGANS = {1: "spleen", 5: "liver", 11: "lung_left"}
DOWNLOAD = "Downloading model for Task 297 ..."
NO_NETWORK = (
    "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='github.com', port=443): Max retries exceeded with url: /wasserth "
    "(Caused by NameResolutionError(\"Failed to resolve 'github.com'\"))"
)
LICENCE = (
    "In contrast to the other tasks this task is not openly available.\nIt requires a license. For non-commercial usage a free license"
)
LAST_WORDS = {
    "no-network": f"{DOWNLOAD}\nTraceback (most recent call last):\n{NO_NETWORK}",
    "not-found": f"{DOWNLOAD}\nrequests.exceptions.HTTPError: 404 Client Error: Not Found for url",
    "damaged": "FileNotFoundError: [Errno 2] No such file or directory: '/w/Dataset297/nnUNetTrainer/fold_0/checkpoint_final.pth'",
    "licence": LICENCE,
    "memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
    "disk": "OSError: [Errno 28] No space left on device",
    "broken": "ModuleNotFoundError: No module named 'nnunetv2'",
    "organ": "Traceback (most recent call last):\nKeyError: 'livre'",
    "crash": "Traceback (most recent call last):\nValueError: something else",
    "task": "TotalSegmentator: error: argument -ta/--task: invalid choice: 'totally' (choose from total, body)",
}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("-i")
    parser.add_argument("-o")
    parser.add_argument("--ml", action="store_true")
    parser.add_argument("--task")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--fastest", action="store_true")
    parser.add_argument("--device")
    parser.add_argument("--nr_thr_resamp")
    parser.add_argument("--nr_thr_saving")
    parser.add_argument("--roi_subset", nargs="+")
    return parser.parse_args()


def note(asked):
    if calls := os.environ.get("PLAYED_CALLS"):
        home = Path(os.environ["TOTALSEG_HOME_DIR"])
        said = vars(asked) | {"pid": os.getpid(), "home": str(home), "config": json.loads((home / "config.json").read_text())}
        said["weights"] = os.environ.get("TOTALSEG_WEIGHTS_PATH")
        with open(calls, "a", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")


def segment(hu, coarse):
    labels = np.zeros(hu.shape, np.uint8)
    labels[(hu > 20) & (hu < 100)] = 5
    labels[(hu > -950) & (hu < -500)] = 11
    return np.roll(labels, 1, axis=2) if coarse else labels


def write(labels, image, path, names):
    """NIfTI with the labels' names in an extension of the header, as nibabel writes it."""
    plain = Path(path).with_name(".plain.nii")
    out = SimpleITK.GetImageFromArray(labels)
    out.CopyInformation(image)
    SimpleITK.WriteImage(out, str(plain))
    data = plain.read_bytes()
    plain.unlink()
    label = '<Label Key="{}" Red="1.0" Green="0.0" Blue="0.0" Alpha="1"><![CDATA[{}]]></Label>'
    rows = "\n".join(label.format(*item) for item in names.items())
    text = f'<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <LabelTable>\n{rows}\n</LabelTable></CaretExtension>\n'.encode()
    text += b"\0" * (-(len(text) + 8) % 16)
    extension = struct.pack("<ii", len(text) + 8, 0) + text
    start = int(struct.unpack_from("<f", data, 108)[0])
    header = bytearray(data[:352])
    struct.pack_into("<f", header, 108, 352 + len(extension))
    header[348] = 1
    with gzip.open(path, "wb") as stream:
        stream.write(bytes(header) + extension + data[start:])


def main():
    asked, mood = arguments(), os.environ.get("PLAYED_SEGMENTER", "")
    note(asked)
    print("\nIf you use this tool please cite: https://pubs.rsna.org/doi/10.1148/ryai.230024\n", flush=True)
    if mood in LAST_WORDS:
        print(LAST_WORDS[mood], file=sys.stderr, flush=True)
        return 2 if mood == "task" else 1
    if mood in ("no-gpu", "slow") and asked.device == "gpu":
        print("No GPU detected. Running on CPU. This can be very slow.", flush=True)
    if mood in ("no-gpu", "slow"):
        print("Predicting part 2 of 5 ...", flush=True)
        time.sleep(60)
    if mood == "nothing":
        return 0
    image = SimpleITK.ReadImage(asked.i)
    labels = segment(SimpleITK.GetArrayFromImage(image), asked.fast or asked.fastest)
    if mood == "empty" or (mood == "empty-recon" and "reference" not in Path(asked.o).name):
        labels[:] = 0
    if mood == "other-grid":
        image, labels = image[1:], labels[..., 1:]
    names = {key: name for key, name in ORGANS.items() if not asked.roi_subset or name in asked.roi_subset}
    write(np.where(np.isin(labels, list(names)), labels, 0).astype(np.uint8), image, asked.o, names)
    print("Saving segmentations...", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
