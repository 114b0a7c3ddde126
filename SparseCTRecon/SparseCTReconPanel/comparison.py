"""What the user asks to be compared, checked, and the job file that follows from it."""

from dataclasses import dataclass

from slicer.i18n import tr as _

from .placement import hasVoxels

MOST_RESULTS = 6
QUALITIES = ("normal", "fast", "fastest")
_DEVICES = {"cuda": "gpu"}


@dataclass(frozen=True)
class Comparison:
    """One comparison, as the panel or a script asks for it.

    Parameters
    ----------
    image : bool
        PSNR, SSIM, RMSE and VIF, over the whole volume and over the body.
    tissues : bool
        Air, lung, fat, soft tissue and bone by their HU.
    organs : bool
        Dice and distances of surfaces for each organ that TotalSegmentator finds in the reference and in the result.
    report : bool
        One self-contained HTML file.
    quality : str
        TotalSegmentator's: "normal" (1.5 mm), "fast" (3 mm) or "fastest" (6 mm).
    organNames : str
        TotalSegmentator's names of the organs, separated by commas; empty = all.
    segmenterTask : str
        One of TotalSegmentator's tasks; some need a licence.
    device : str
        "auto", "cpu" or "cuda", for the segmenter.
    noiseFloor : bool
        Segment the reference once more in another quality: how far the segmenter disagrees with itself.
    """

    image: bool = True
    tissues: bool = True
    organs: bool = False
    report: bool = True
    quality: str = "fast"
    organNames: str = ""
    segmenterTask: str = "total"
    device: str = "auto"
    noiseFloor: bool = True

    def isValid(self, referenceNode, resultNodes):
        """Return (True, "") or (False, why not, in one sentence)."""
        if referenceNode is None:
            return False, _("Select the reference: the CT that the scan was made of, or the best volume there is.")
        if not resultNodes:
            return False, _("Check the volumes to compare with the reference.")
        if len(resultNodes) > MOST_RESULTS:
            return False, _("Up to {most} volumes are compared at once; {n} are checked.").format(most=MOST_RESULTS, n=len(resultNodes))
        if referenceNode in resultNodes:
            return False, _("{name} is the reference: it would be compared with itself.").format(name=referenceNode.GetName())
        for node in (referenceNode, *resultNodes):
            if not hasVoxels(node):
                return False, _("{name} has no voxels: load it, or select another volume.").format(name=node.GetName())
            if min(node.GetImageData().GetDimensions()) < 2:
                return False, _("{name} is a single slice: select a volume.").format(name=node.GetName())
        return True, ""

    def job(self, reference, results, output):
        """The job.json.

        Parameters
        ----------
        reference : (str, str)
            Name and file.
        results : dict of str to str
            Files by unique names.
        output : str
            Folder; relative to the job's folder, as the files are.
        """
        organs = [name.strip() for name in self.organNames.split(",") if name.strip()]
        return {
            "task": "compare",
            "reference": reference[1],
            "reference_name": reference[0],
            "results": [{"name": name, "path": path} for name, path in results.items()],
            "output": output,
            "image": self.image,
            "tissues": self.tissues,
            "organs": self.organs,
            "report": self.report,
            "segmenter": {
                "task": self.segmenterTask,
                "quality": self.quality,
                "organs": organs,
                "device": _DEVICES.get(self.device, self.device),
                "noise_floor": self.noiseFloor,
            },
        }
