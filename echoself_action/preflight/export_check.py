"""What a job writes for other programs, and whether it can."""

from ..checkpoint.model_folder import ModelFolder
from ..config.inputs import Inputs
from ..errors import CheckpointError
from ..formats.runtimes.export_files import export_size, require_exportable, require_folder_exportable, selected
from ..input_field import PUBLISHES
from ..model import ModelConfig
from ..report.checks import PreflightCheck, problem
from ..resources import size_text


def formats_check(
    inputs: Inputs, config: "ModelConfig | None" = None, folder: ModelFolder | None = None
) -> list[PreflightCheck]:
    """What is written for other programs, for the model in `folder` or one of this configuration, if they are known; nothing
    without `formats`.
    """
    formats = selected(inputs.exported_formats) if inputs.mode in PUBLISHES else []
    if not formats:
        return []
    names = ", ".join(f"{one.name} for {one.display_name}" for one in formats)
    try:
        if folder:
            require_folder_exportable(formats, folder, inputs.output_dir)
            config = folder.config
        elif config:
            require_exportable(formats, config, inputs.output_dir)
    except CheckpointError as error:
        return [problem("formats", error)]
    size = f", about {size_text(export_size(formats, config))}" if config else ""
    return [PreflightCheck("formats", f"{names}{size}: written, run in these programs, and published with the model")]
