"""Weights for the real TotalSegmentator that know two organs by their HU: `python tiny_totalsegmentator.py FOLDER`.

For the Python that has TotalSegmentator. Each of task total's models becomes an nnU-Net of 1x1x1 kernels with all of the model's classes.
A class's logit is a tent about its HU, the background's a constant, so that an organ is found where a voxel is near its HU.
"""

import json
import sys
from pathlib import Path

ORGANS = {"liver": (60.0, 85.0), "lung_upper_lobe_left": (-750.0, 320.0)}
"""HU, and how far a voxel may be from it: half of the way to fat of -110 HU, so that an edge in fat stays where it is."""
PATCH = [32, 32, 32]
MODELS = {
    **{task: ("nnUNetTrainerNoMirroring", 1.5) for task in (291, 292, 293, 294, 295)},
    297: ("nnUNetTrainer_4000epochs_NoMirroring", 3.0),
    298: ("nnUNetTrainer_4000epochs_NoMirroring", 6.0),
}
HU_OF_ONE = 1000.0


def plans(spacing_mm: float) -> dict:
    """nnU-Net's description of the network and of what is done to its input."""
    features = 3 * len(ORGANS)
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    network = {
        "n_stages": 2,
        "features_per_stage": [features, features],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 1, 1], [1, 1, 1]],
        "strides": [[1, 1, 1], [1, 1, 1]],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": None,
        "norm_op_kwargs": None,
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.ReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": PATCH,
        "median_image_size_in_voxels": PATCH,
        "spacing": [spacing_mm] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": False,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    for what, is_seg in (("data", False), ("seg", True), ("probabilities", False)):
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{what}_kwargs"] = resampling | {"is_seg": is_seg}
    intensities = {"mean": 0.0, "std": HU_OF_ONE, "percentile_00_5": -HU_OF_ONE, "percentile_99_5": HU_OF_ONE}
    return {
        "dataset_name": "tiny",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [spacing_mm] * 3,
        "original_median_shape_after_transp": PATCH,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }


def weights(described: dict, classes: dict[int, str]) -> dict:
    """State of the network: stage 0 makes three hinges for each organ, the decoder passes them on, the last layer adds them to tents."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture = described["configurations"]["3d_fullres"]["architecture"]
    kind, arguments, to_import = (architecture[key] for key in ("network_class_name", "arch_kwargs", "_kw_requires_import"))
    network = get_network_from_plans(kind, arguments, to_import, 1, len(classes) + 1, deep_supervision=False)
    labels = {name: label for label, name in classes.items()}
    with torch.no_grad():
        for values in network.parameters():
            values.zero_()
        hinges, last = network.encoder.stages[0][0].convs[0].conv, network.decoder.seg_layers[-1]
        passed = network.decoder.stages[0].convs[0].conv
        features = len(hinges.bias)
        hinges.weight.fill_(1.0)
        passed.weight[range(features), range(features, 2 * features)] = 1.0  # the skip lies behind what comes from below
        last.bias.fill_(-1.0)
        last.bias[0] = 0.5
        for number, (name, (hu, half_width)) in enumerate(ORGANS.items()):
            mine, middle, width = slice(3 * number, 3 * number + 3), hu / HU_OF_ONE, 2 * half_width / HU_OF_ONE
            hinges.bias[mine] = -torch.tensor([middle - width, middle, middle + width])
            if name in labels:
                last.weight[labels[name], mine, 0, 0, 0] = torch.tensor([1.0, -2.0, 1.0]) / width
                last.bias[labels[name]] = 0.0
    return network.state_dict()


def write_model(folder: Path, task: int) -> None:
    """Model `task` where TotalSegmentator looks for it below `folder`."""
    import torch
    from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS
    from totalsegmentator.map_to_binary import class_map, class_map_5_parts, map_taskid_to_partname_ct

    trainer, spacing_mm = MODELS[task]
    part = map_taskid_to_partname_ct.get(task)
    classes = class_map_5_parts[part] if part else class_map["total"]
    described = plans(spacing_mm)
    place = folder / TASK_ID_WEIGHTS_CONFIGS[task]["foldername"] / f"{trainer}__nnUNetPlans__3d_fullres"
    (place / "fold_0").mkdir(parents=True)
    labels = {"background": 0} | {name: label for label, name in classes.items()}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 0, "file_ending": ".nii.gz"}
    (place / "dataset.json").write_text(json.dumps(dataset))
    (place / "plans.json").write_text(json.dumps(described))
    checkpoint = {
        "network_weights": weights(described, classes),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, place / "fold_0" / "checkpoint_final.pth")


if __name__ == "__main__":
    for one in MODELS:
        write_model(Path(sys.argv[1]), one)
