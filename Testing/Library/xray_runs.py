"""Rotational X-ray runs in DICOM, encoded tag by tag from PS3.5 and PS3.10, without pydicom: explicit VR, little endian."""

import struct

import numpy as np

XA, RF = "1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2"
ENHANCED_XA = "1.2.840.10008.5.1.4.1.1.12.1.1"
EXPLICIT, RLE, JPEG2000 = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"
PATIENT = "Doe^Jane"
_LONG = ("OB", "OW", "SQ", "UN", "UT")


def element(tag, vr, value):
    """One element; `value` is bytes, text, or a list of numbers or texts."""
    group, number = divmod(tag, 1 << 16)
    if vr == "SQ":
        body = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in value)
    elif vr == "US":
        body = struct.pack(f"<{len(value)}H", *value)
    elif vr == "FD":
        body = struct.pack(f"<{len(value)}d", *value)
    elif isinstance(value, bytes):
        body = value
    else:
        text = value if isinstance(value, str) else "\\".join(str(each) for each in value)
        body = text.encode("latin-1")
    if len(body) % 2:
        body += b"\0" if vr in ("UI", "OB") else b" "
    head = struct.pack("<HH2s", group, number, vr.encode())
    return head + (struct.pack("<HI", 0, len(body)) if vr in _LONG else struct.pack("<H", len(body))) + body


def item(*elements):
    """An item of a sequence; elements are (tag, VR, value)."""
    return b"".join(element(*each) for each in sorted(elements))


def encapsulated(fragments):
    """Pixel data of a compressed syntax: an empty table of offsets and a fragment for each frame."""
    items = [b"", *(each + b"\0" * (len(each) % 2) for each in fragments)]
    body = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(each)) + each for each in items)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + body + end


def run_length(frame):
    """A frame of 16 bits, high bytes first, each byte as it is (PS3.5 annex G)."""
    planes = [(frame >> 8).astype(np.uint8).tobytes(), (frame & 255).astype(np.uint8).tobytes()]
    coded = []
    for plane in planes:
        parts = [plane[k : k + 128] for k in range(0, len(plane), 128)]
        segment = b"".join(bytes([len(part) - 1]) + part for part in parts)
        coded.append(segment + b"\0" * (len(segment) % 2))
    offsets = [64, 64 + len(coded[0])]
    return struct.pack("<I15I", 2, *offsets, *[0] * 13) + b"".join(coded)


def part10(elements, sop_class=XA, syntax=EXPLICIT, pixels=b"", instance="1.2.3.4"):
    """A whole file; `pixels` is the encoded element of the pixels."""
    meta = item((0x00020001, "OB", b"\0\1"), (0x00020002, "UI", sop_class), (0x00020003, "UI", instance), (0x00020010, "UI", syntax))
    meta = element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta
    return bytes(128) + b"DICM" + meta + item(*elements) + pixels


def common(rows, columns, series="1.2.3", **changed):
    """Elements that all images have; `changed` replaces by the tag in hexadecimal ("t00181110": (VR, value)), None leaves out."""
    elements = {
        0x00080016: ("UI", XA),
        0x00080018: ("UI", "1.2.3.4"),
        0x00080060: ("CS", "XA"),
        0x00100010: ("PN", PATIENT),
        0x00100020: ("LO", "4711-secret"),
        0x00181110: ("DS", [1200]),
        0x00181111: ("DS", [780]),
        0x00181164: ("DS", [0.8, 0.6]),
        0x00181510: ("DS", [-100]),
        0x00181511: ("DS", [0]),
        0x0020000D: ("UI", "1.2.9"),
        0x0020000E: ("UI", series),
        0x00200013: ("IS", [1]),
        0x00280002: ("US", [1]),
        0x00280004: ("CS", "MONOCHROME2"),
        0x00280010: ("US", [rows]),
        0x00280011: ("US", [columns]),
        0x00280100: ("US", [16]),
        0x00280101: ("US", [16]),
        0x00280102: ("US", [15]),
        0x00280103: ("US", [0]),
        0x00281040: ("CS", "LIN"),
    }
    elements |= {int(key[1:], 16): value for key, value in changed.items()}
    return [(tag, *value) for tag, value in elements.items() if value is not None]


def plain(images):
    """The element of pixels that are not compressed."""
    return element(0x7FE00010, "OW", np.asarray(images, "<u2").tobytes())


def run(images, increments, syntax=EXPLICIT, **changed):
    """A classic XA run of many frames; `increments`: degrees from the first angle, or one step."""
    frames, rows, columns = images.shape
    said = {"t00280008": ("IS", [frames]), "t00181500": ("CS", "DYNAMIC"), "t00181520": ("DS", list(increments))} | changed
    if syntax == RLE:
        pixels = encapsulated([run_length(frame) for frame in images])
    elif syntax == EXPLICIT:
        pixels = plain(images)
    else:
        pixels = encapsulated([b"\xff\x4f\xff\x51no image"] * frames)
    return part10(common(rows, columns, **said), syntax=syntax, pixels=pixels)


def enhanced(images, angles, sid=785.0, sdd=1180.0, **changed):
    """An enhanced XA run: angles with each frame, distances and pitch with all."""
    frames, rows, columns = images.shape
    shared = item(
        (0x00189476, "SQ", [item((0x00181110, "FD", [sdd]), (0x00189402, "FD", [sid]))]),
        (0x00289443, "SQ", [item((0x00181164, "DS", [0.8, 0.6]), (0x00281040, "CS", "LIN"))]),
    )
    each = [item((0x00189405, "SQ", [item((0x00181510, "FD", [p]), (0x00181511, "FD", [s]))])) for p, s in angles]
    left_out = dict.fromkeys(["t00181110", "t00181111", "t00181164", "t00181510", "t00181511", "t00281040"])
    said = {"t00280008": ("IS", [frames]), "t52009229": ("SQ", [shared]), "t52009230": ("SQ", each)}
    elements = common(rows, columns, **(left_out | said | changed))
    return part10(elements, sop_class=ENHANCED_XA, pixels=plain(images))
