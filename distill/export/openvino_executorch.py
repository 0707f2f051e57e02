"""Files for engines that are not installed with everything else: OpenVINO and ExecuTorch."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch


def save_openvino(whole, path: Path, facts: dict[str, str]) -> None:
    """Write an ONNX graph as OpenVINO's .xml and .bin, float32, the facts in its rt_info."""
    import openvino

    from distill.export.onnx_graph import save_onnx

    with TemporaryDirectory() as folder:
        save_onnx(whole, Path(folder) / "student.onnx", facts)
        model = openvino.convert_model(Path(folder) / "student.onnx")
    for name, text in facts.items():
        model.set_rt_info(text, ["fer_distill", name])
    for written in (path, path.with_suffix(".bin")):
        written.unlink(missing_ok=True)  # an engine that has it open keeps its own
    openvino.save_model(model, path, compress_to_fp16=False)


def save_executorch(traced: torch.export.ExportedProgram, path: Path, facts: dict[str, str]) -> None:
    """Write a program as ExecuTorch's .pte, by XNNPACK where it can; a method of the file, facts, answers the facts as JSON."""
    from distill.export.onnx_graph import quiet

    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        methods = {"facts": json.dumps(facts)}
        lowered = to_edge_transform_and_lower(traced, partitioner=[XnnpackPartitioner()], constant_methods=methods)
        path.unlink(missing_ok=True)  # an engine that has it open keeps its own
        path.write_bytes(lowered.to_executorch().buffer)
