"""Features from a pretrained network in ONNX: the shipped EfficientNet-Lite0, or the user's own.

EfficientNet-Lite0: Tan and Le, "EfficientNet" (ICML 2019), in the mobile form without squeeze-and-excitation, trained
on ImageNet; its 1,280 pooled features. All arithmetic is float32 on the CPU, in one thread count and order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PIL

from cipherlens.errors import InputError
from cipherlens.features.onnx_files import refers_to_files
from cipherlens.features.pixels import Floats, Image, check_size

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_DEVIATION = (58.395, 57.12, 57.375)
GREY_MEAN = GREY_DEVIATION = 127.5


@dataclass(frozen=True, slots=True, repr=False)
class Backbone:
    """An ONNX model from a batch of images (n, c, height, width) float32 to features (n, d) or (n, d, h, w).

    Images are stretched to height x width (Pillow's bicubic filter on 8-bit pixels, which averages when it scales
    down), then (pixel - mean) / deviation, pixels in 0..255, one number a channel: three for RGB, one for grey.
    A 4-D output is averaged over its pixels. With `root`, each feature is replaced by its square root (with the sign
    kept), which evens out the skew of averaged non-negative activations.
    """

    model: bytes
    height: int
    width: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    name: str = "onnx"
    root: bool = False

    kind: ClassVar[str] = "onnx"
    batch: ClassVar[int] = 16
    standardise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_size(self.height, self.width, multiple=1)
        if len(self.mean) not in (1, 3) or len(self.mean) != len(self.deviation):
            raise InputError("A model's mean and deviation are three numbers each (RGB), or one each (grey).")
        if not np.isfinite(self.mean + self.deviation).all() or min(self.deviation) < 1:
            raise InputError(
                "A model's mean and deviation are in units of 8-bit pixels; multiply those for [0, 1] by 255."
            )

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, {self.height}x{self.width}, {len(self.model):,} bytes)"

    @classmethod
    def lite0(cls) -> "Backbone":
        """The shipped EfficientNet-Lite0: 224 x 224, (pixel - 127) / 128, the square roots of 1,280 features.

        The roots gained 0.7 points on 1,800 cats and others outside the demonstration (89.7 to 90.4 %).
        """
        model = (files("cipherlens.features") / "data" / "lite0.onnx").read_bytes()
        return cls(model, 224, 224, (127.0,) * 3, (128.0,) * 3, "lite0", root=True)

    @classmethod
    def load(
        cls,
        path: str | Path,
        size: tuple[int, int] | None = None,
        mean: tuple[float, ...] | None = None,
        deviation: tuple[float, ...] | None = None,
        root: bool = False,
    ) -> "Backbone":
        """A model of the user's, in one file.

        size: (height, width); by default the model's own, or 224 x 224 if it takes any.
        mean, deviation: in units of 8-bit pixels, one number a channel; by default ImageNet's for a colour model, as
        torchvision's expect, and for a grey one (a single channel) what brings pixels to -1 ... 1.
        root: whether to take square roots of the features.

        Raises InputError if onnxruntime is missing, or the file is not a model from images to features.
        """
        path = Path(path)
        if path.exists() and not path.is_file():
            raise InputError(f"The model '{path}' is a folder, a pipe or a device; give an ONNX file.")
        try:
            model = path.read_bytes()
        except OSError as error:
            raise InputError(f"The model '{path}' cannot be read ({error.strerror}); check the path.") from error
        session = _open(model, 1, path.name)
        given = mean or deviation
        grey = _input_shape(session, path.name)[1] == 1 if given is None else len(given) == 1
        mean = mean or ((GREY_MEAN,) if grey else IMAGENET_MEAN)
        deviation = deviation or ((GREY_DEVIATION,) if grey else IMAGENET_DEVIATION)
        shape = _check_input(session, path.name, len(mean))
        own = tuple(side if isinstance(side, int) else 224 for side in shape[2:])
        height, width = size or own
        backbone = cls(model, height, width, tuple(map(float, mean)), tuple(map(float, deviation)), path.name, root)
        backbone.extractor(1)([np.zeros((height, width), np.uint8)])
        return backbone

    def extractor(self, threads: int = 1) -> Callable[[Sequence[Image]], Floats]:
        """A function from images to (n, d) float64, computing on `threads` threads.

        Raises InputError if onnxruntime is missing or the model does not fit its settings; so does the function.
        """
        session = _open(self.model, threads, self.name)
        shape = _check_input(session, self.name, len(self.mean))
        source, one_by_one = session.get_inputs()[0].name, shape[0] == 1
        mean = np.array(self.mean, np.float32)[:, None, None]
        deviation = np.array(self.deviation, np.float32)[:, None, None]

        def run(inputs: NDArray[np.float32]) -> Floats:
            try:
                output = np.asarray(session.run([session.get_outputs()[0].name], {source: inputs})[0])
            except Exception as error:  # onnxruntime's own exception types are not public
                line = str(error).splitlines()[0]
                raise InputError(
                    f"The model '{self.name}' failed on {self.height}x{self.width} images ({line})."
                ) from error
            if output.ndim == 4:
                output = output.mean(axis=(2, 3), dtype=np.float64)
            if output.ndim != 2 or len(output) != len(inputs) or output.dtype.kind != "f":
                raise InputError(
                    f"The model '{self.name}' gives {output.dtype}{list(output.shape)} for {len(inputs)} images; "
                    "it must give one row (n, d) or one map (n, d, h, w) of floats an image."
                )
            if not np.isfinite(output).all():
                raise InputError(
                    f"The model '{self.name}' gives NaN or infinite features; check its mean and deviation."
                )
            values: Floats = output.astype(np.float64)
            return np.copysign(np.sqrt(np.abs(values)), values) if self.root else values

        def extract(images: Sequence[Image]) -> Floats:
            inputs = (np.stack([self._prepare(image) for image in images]) - mean) / deviation
            return np.vstack([run(inputs[i : i + 1]) for i in range(len(inputs))]) if one_by_one else run(inputs)

        return extract

    def _prepare(self, image: Image) -> NDArray[np.float32]:
        """(c, height, width) float32 in 0..255."""
        picture = PIL.fromarray(image).convert("RGB" if len(self.mean) == 3 else "L")
        if picture.size != (self.width, self.height):
            picture = picture.resize((self.width, self.height), PIL.Resampling.BICUBIC)
        pixels = np.asarray(picture, np.float32)
        return np.moveaxis(pixels, 2, 0) if pixels.ndim == 3 else pixels[None]

    def settings(self) -> dict[str, object]:
        """What, with `arrays`, makes the same features again."""
        return {
            "height": self.height,
            "width": self.width,
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            "name": self.name,
            "root": self.root,
            "sha256": sha256(self.model).hexdigest(),
        }

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The model's bytes, so that a contributor without the file computes the same features; the shipped one's not."""
        return {} if self == Backbone.lite0() else {"onnx_model": np.frombuffer(self.model, np.uint8)}


def _open(model: bytes, threads: int, name: str) -> Any:
    try:
        onnxruntime = import_module("onnxruntime")  # here: everything else works without it
    except ImportError as error:
        raise InputError(
            "Features from a network need onnxruntime; run 'pip install onnxruntime', or choose 'hog'."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if refers_to_files(model):
        raise InputError(f"'{name}' is not an ONNX model with all its weights in one file; save it in that form.")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exception types are not public
        line = str(error).splitlines()[0]
        raise InputError(f"'{name}' is not an ONNX model in one file that onnxruntime can load ({line}).") from error


def _input_shape(session: Any, name: str) -> list[int | str | None]:
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise InputError(f"The model '{name}' must take exactly one float32 input (n, channels, height, width).")
    shape: list[int | str | None] = inputs[0].shape
    return shape


def _check_input(session: Any, name: str, channels: int) -> list[int | str | None]:
    shape = _input_shape(session, name)
    if isinstance(shape[1], int) and shape[1] != channels:
        raise InputError(
            f"The model '{name}' takes {shape[1]} channels, and its mean and deviation have {channels}; give one number a channel."
        )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise InputError(
            f"The model '{name}' takes exactly {shape[0]} images at a time; export it with a free batch size."
        )
    return shape
