"""Let each text file end with exactly one newline: python .ci/end_of_file.py FILE...; the exit code is 1 where one was changed."""

import sys
from pathlib import Path

changed = False
for path in map(Path, sys.argv[1:]):
    text = path.read_bytes()
    if text and text != (mended := text.rstrip(b"\r\n") + b"\n"):
        path.write_bytes(mended)
        print(f"{path}: its end was mended")
        changed = True
sys.exit(changed)
