"""Files as clinical scanners write them, byte by byte from the formats' descriptions: Varian .hnd, .hnc, .xim; Elekta .his; XML."""

import struct

import numpy as np

PATIENT = ("Jane", "Doe", "4711-secret")
"""First name, last name and number of a patient whose data must not leave the files."""


def differences(image):
    """Varian's compression of `image` [v, u] of int32: first row and one pixel plain, then one, two or four bytes of what the three
    neighbours above and to the left do not foretell; two bits a pixel say how many. Returns the table of bits and the bytes."""
    flat = [int(value) for value in np.asarray(image).ravel()]
    width = image.shape[1]
    plain = struct.pack(f"<{width + 1}i", *flat[: width + 1])
    sizes, coded = [], b""
    for k in range(width + 1, len(flat)):
        rest = flat[k] - flat[k - 1] - flat[k - width] + flat[k - width - 1]
        rest = (rest + 2**31) % 2**32 - 2**31
        code = 0 if -128 <= rest < 128 else 1 if -32768 <= rest < 32768 else 2
        sizes.append(code)
        coded += struct.pack("<" + "bhi"[code], rest)
    sizes += [0] * (-len(sizes) % 4)
    table = bytes(a | b << 2 | c << 4 | d << 6 for a, b, c, d in zip(*[iter(sizes)] * 4))
    return table, plain + coded


def varian_header(shape, angle_deg, pixel_mm=(0.4, 0.5), norm_chamber=1.0, **changed):
    """The header of .hnd and .hnc: 512 bytes of text, whole numbers and doubles; `changed` are other (offset, format): value."""
    header = bytearray(512)
    fields = {
        (0, "32s"): b"VARIAN_VA_INTERNAL_HND_1.0",
        (60, "16s"): PATIENT[2].encode(),
        (120, "<I"): shape[1],
        (124, "<I"): shape[0],
        (168, "<d"): 12.5,
        (352, "<d"): pixel_mm[1],
        (360, "<d"): pixel_mm[0],
        (432, "<d"): angle_deg,
        (440, "<d"): norm_chamber,
    }
    for (offset, code), value in (fields | changed.get("fields", {})).items():
        struct.pack_into(code, header, offset, value)
    return bytes(header)


def hnd(image, angle_deg, **header):
    """A file of Varian's OBI, compressed. The table of sizes has room for (rows - 1) * columns pixels."""
    table, coded = differences(image)
    room = (image.shape[0] - 1) * image.shape[1] // 4
    return varian_header(image.shape, angle_deg, **header) + bytes(512) + table[:room].ljust(room, b"\0") + coded


def hnc(image, angle_deg, **header):
    """A file of Varian's OBI, 16 bits a pixel."""
    header["fields"] = {(0, "32s"): b"VARIAN_VA_INTERNAL_HNCU_1.0"} | header.get("fields", {})
    return varian_header(image.shape, angle_deg, **header) + np.asarray(image, "<u2").tobytes()


def xim(image, properties, compressed=True):
    """A file of TrueBeam or ProBeam; properties are whole numbers, floats, texts, or lists of numbers."""
    rows, columns = image.shape
    out = struct.pack("<8s6i", b"VMS.XI\0\0", 1, columns, rows, 32, 4, int(compressed))
    if compressed:
        table, coded = differences(image) if image.size else (b"", b"")
        out += struct.pack("<i", len(table)) + table + struct.pack("<i", len(coded)) + coded + struct.pack("<i", 4 * image.size)
    else:
        out += struct.pack("<i", 4 * image.size) + np.asarray(image, "<i4").tobytes()
    out += struct.pack("<i3i", 3, 5, 6, 7) + struct.pack("<i", len(properties))
    return out + b"".join(_property(name, value) for name, value in properties.items())


def _property(name, value):
    if isinstance(value, str):
        kind, body = 2, struct.pack("<i", len(value)) + value.encode()
    elif isinstance(value, list):
        code = "d" if isinstance(value[0], float) else "i"
        kind, body = (4 if code == "d" else 5), struct.pack(f"<i{len(value)}{code}", struct.calcsize(code) * len(value), *value)
    else:
        kind, body = (0, struct.pack("<i", value)) if isinstance(value, int) else (1, struct.pack("<d", value))
    return struct.pack("<i", len(name)) + name.encode() + struct.pack("<i", kind) + body


def his(image):
    """A file of Elekta's XVI (PerkinElmer's Heimann format): 68 bytes, 32 more, and 16 bits a pixel."""
    rows, columns = image.shape
    header = bytearray(68)
    struct.pack_into("<10H", header, 0, 0x7000, 68, 0, 100, 0, 32, 1, 1, columns, rows)
    struct.pack_into("<H", header, 20, 1)
    struct.pack_into("<H", header, 32, 4)
    return bytes(header) + bytes(32) + np.asarray(image, "<u2").tobytes()


def frames_xml(angles_deg, centres_mm, closing="</ProjectionSet>"):
    """Elekta's _Frames.xml: an angle and the isocentre's place (u, v) on the panel for each projection, and the patient's name."""
    frames = "".join(
        f"<Frame><Seq>{k + 1}</Seq><DeltaMs>{182 * k}</DeltaMs><GantryAngle>{angle}</GantryAngle><Exposed>True</Exposed>"
        f"<UCentre>{u}</UCentre><VCentre>{v}</VCentre><Inactive>False</Inactive></Frame>\n"
        for k, (angle, (u, v)) in enumerate(zip(angles_deg, centres_mm))
    )
    first, last, number = PATIENT
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<ProjectionSet>\n'
        f"<Patient><FirstName>{first}</FirstName><LastName>{last}</LastName><ID>{number}</ID></Patient>\n"
        f"<Image><kV>120</kV><mA>40</mA><ms>40</ms><Width>512</Width></Image>\n<Frames>\n{frames}</Frames>\n{closing}"
    )


def projection_info_xml(sid=1000.0, sdd=1500.0, fan="HalfFan", offset=(1.5, -2.5), lateral=-148.0):
    """ProjectionInfo.xml of Varian's OBI. SAD is source to axis; Varian's SID is source to image."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<ProjectionInfo><Patient>Doe^Jane</Patient>'
        f"<SystemCalibration><CalibratedSAD>{sid}</CalibratedSAD><CalibratedSID>{sdd}</CalibratedSID>"
        f"<CalibratedDetectorOffsetX>{offset[0]}</CalibratedDetectorOffsetX>"
        f"<CalibratedDetectorOffsetY>{offset[1]}</CalibratedDetectorOffsetY></SystemCalibration>"
        f"<Scan><FanType>{fan}</FanType><DetectorSizeX>397.312</DetectorSizeX><DetectorSizeY>297.984</DetectorSizeY>"
        f"<DetectorPosLat>{lateral}</DetectorPosLat></Scan></ProjectionInfo>"
    )


def scan_xml(sid=1000.0, sdd=1540.0):
    """Scan.xml of TrueBeam and ProBeam."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<Scan Version="2.7.0.0" xmlns="http://baden.varian.com/cr.xsd"><Acquisitions>'
        f"<Velocity>6</Velocity><SAD>{sid}</SAD><SID>{sdd}</SID><ImagerSizeX>1024</ImagerSizeX><ImagerSizeY>768</ImagerSizeY>"
        "<ImagerResX>0.388</ImagerResX><ImagerResY>0.388</ImagerResY><ImagerLat>-160</ImagerLat><Fan>Half</Fan>"
        "</Acquisitions></Scan>"
    )
