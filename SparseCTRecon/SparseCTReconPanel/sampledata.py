"""The sample CTs that come with the extension, offered in the Sample Data module."""

from pathlib import Path

CATEGORY = "SparseCTRecon"
SAMPLES = {
    "SparseCTReconHead": ("head_vhp_female_2mm.nrrd", "0da7c8baf766280a23f37596290ecdb6287db6ca34e22f364b1fd093a23ab1d1"),
    "SparseCTReconKnee": ("knee_vhp_female_2mm.nrrd", "387251a63183fe91be0ecc01f615639b930d013db12fb7d30f1e15a53156d531"),
}


def sampleFolder():
    """Where the sample CTs lie: beside the modules once installed, at the root of the repository before."""
    module = Path(__file__).resolve().parents[1]
    folders = [module / "Resources" / "SampleData", module.parent / "Resources" / "SampleData"]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def registerSampleData():
    """Add the sample CTs to the Sample Data module; nothing is downloaded."""
    import SampleData

    icons = Path(__file__).resolve().parents[1] / "Resources" / "Icons"
    for name, (file, checksum) in SAMPLES.items():
        path = sampleFolder() / file
        if path.is_file():
            SampleData.SampleDataLogic.registerCustomSampleDataSource(
                category=CATEGORY,
                sampleName=name,
                thumbnailFileName=str(icons / f"{name}.png"),
                uris=path.as_uri(),
                fileNames=path.name,
                nodeNames=name,
                checksums=f"SHA256:{checksum}",
            )
