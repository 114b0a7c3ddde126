"""The figures of a comparison as table nodes."""

import math

import slicer
from slicer.i18n import tr as _

from .scene import PREFIX

KIND = PREFIX + "comparison"
REFERENCE = PREFIX + "reference"

# Key in comparison.json: title of the column, unit
_IMAGE = {
    "psnr_db": ("PSNR", "dB"),
    "ssim": ("SSIM", ""),
    "rmse_hu": ("RMSE", "HU"),
    "vif": ("VIF", ""),
    "body_psnr_db": ("Body PSNR", "dB"),
    "body_ssim": ("Body SSIM", ""),
    "body_rmse_hu": ("Body RMSE", "HU"),
    "body_vif": ("Body VIF", ""),
    "fov_psnr_db": ("FOV PSNR", "dB"),
    "fov_ssim": ("FOV SSIM", ""),
    "fov_rmse_hu": ("FOV RMSE", "HU"),
    "fov_fraction": ("FOV part", ""),
    "compared_fraction": ("Compared part", ""),
}
_TISSUES = {
    "dice": ("Dice", ""),
    "error_hu": ("Error", "HU"),
    "rmse_hu": ("RMSE", "HU"),
    "mean_hu": ("Mean", "HU"),
    "reference_mean_hu": ("Reference mean", "HU"),
    "volume_ml": ("Volume", "ml"),
    "reference_volume_ml": ("Reference volume", "ml"),
}
_ORGANS = {
    "dice": ("Dice", ""),
    "noise_dice": ("Noise floor Dice", ""),
    "assd_mm": ("ASSD", "mm"),
    "noise_assd_mm": ("Noise floor ASSD", "mm"),
    "hd95_mm": ("HD95", "mm"),
    "noise_hd95_mm": ("Noise floor HD95", "mm"),
    "volume_ml": ("Volume", "ml"),
    "reference_volume_ml": ("Reference volume", "ml"),
}
_COLUMNS = {"image": _IMAGE, "tissues": _TISSUES, "organs": _ORGANS}
KINDS = tuple(_COLUMNS)


def title(kind):
    """What the table is called in the panel."""
    return {"image": _("Image figures"), "tissues": _("Tissues"), "organs": _("Organs")}[kind]


def makeTables(comparison, referenceNode=None):
    """Put the figures into table nodes, one for each kind that was asked for; those of an earlier comparison are used again.

    Parameters
    ----------
    comparison : dict
        The content of comparison.json.
    referenceNode : vtkMRMLScalarVolumeNode, optional
        The reference, where it is still in the scene.

    Returns
    -------
    dict of str to vtkMRMLTableNode
        By kind: "image", "tissues", "organs".
    """
    return {
        kind: _fill(_tableNode(kind, comparison, referenceNode), kind, comparison)
        for kind in KINDS
        if any(result.get(kind) is not None for result in comparison["results"])
    }


def columns(kind, comparison):
    """Title and unit of each figure of a table by its key; those within the field of view only where one leaves voxels out."""
    figures = [result.get(kind) or {} for result in comparison["results"]]
    if kind != "image" or any(one.get("fov_fraction", 1) < 1 for one in figures):
        return _COLUMNS[kind]
    return {key: column for key, column in _IMAGE.items() if not key.startswith("fov_")}


def rows(kind, comparison):
    """The rows of a table: texts of the first columns, and numbers (NaN where undefined)."""
    found = []
    for result in comparison["results"]:
        figures = result.get(kind)
        if figures is None:
            continue
        if kind == "image":
            found.append(([result["name"]], _numbers(figures, columns(kind, comparison))))
            continue
        for one in figures:
            mark = _(" (at the border)") if one.get("at_border") else ""
            found.append(([result["name"], one["name"] + mark], _numbers(one, columns(kind, comparison))))
    return found


def textOf(value):
    """A figure as the panel writes it."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return _("equal")
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) > 1 else f"{value:.3f}"


def _numbers(figures, columns):
    numbers = {key: math.nan if figures.get(key) is None else float(figures[key]) for key in columns}
    for key in ("psnr_db", "body_psnr_db", "fov_psnr_db"):
        # No error at all has no PSNR in JSON; on a scale of dB it is infinite.
        if key in numbers and math.isnan(numbers[key]) and figures.get(key.replace("psnr_db", "rmse_hu")) == 0:
            numbers[key] = math.inf
    return list(numbers.values())


def _tableNode(kind, comparison, referenceNode):
    referenceID = referenceNode.GetID() if referenceNode else None
    for node in slicer.util.getNodesByClass("vtkMRMLTableNode"):
        if node.GetAttribute(KIND) == kind and node.GetNodeReferenceID(REFERENCE) == referenceID:
            return node
    name = _("{kind} against {reference}").format(kind=title(kind), reference=comparison["reference"]["name"])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", slicer.mrmlScene.GenerateUniqueName(name))
    node.SetAttribute(KIND, kind)
    node.SetNodeReferenceID(REFERENCE, referenceID)
    return node


def _fill(node, kind, comparison):
    import vtk

    conventions = comparison.get("conventions", {})
    found = rows(kind, comparison)
    with slicer.util.NodeModify(node):
        node.RemoveAllColumns()
        for column, name in enumerate([_("Volume")] if kind == "image" else [_("Volume"), title(kind)]):
            texts = vtk.vtkStringArray()
            texts.SetName(name)
            for text, _figures in found:
                texts.InsertNextValue(text[column])
            node.AddColumn(texts)
        for column, (key, (name, unit)) in enumerate(columns(kind, comparison).items()):
            values = vtk.vtkDoubleArray()
            values.SetName(f"{name} ({unit})" if unit else name)
            for _text, figures in found:
                values.InsertNextValue(figures[column])
            node.AddColumn(values)
            node.SetColumnUnitLabel(values.GetName(), unit)
            node.SetColumnDescription(values.GetName(), conventions.get(key, ""))
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetUseFirstColumnAsRowHeader(True)
        node.SetLocked(True)
    return node
