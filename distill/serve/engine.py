"""The engine that the page computes with: three files of onnxruntime-web, fetched once from npm, checked against their hashes."""

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
SHA256 = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
BY_HAND = f"Where npm and a network are, type: npm pack {PACKAGE} && tar xzf onnxruntime-web-{VERSION}.tgz, and give --ort package/dist."
SECONDS = 600


def engine(store: Path, given: Path | None = None) -> dict[str, bytes]:
    """Return name -> content of the engine's files; the first time they come from npm, later from the store.

    Args:
        store: the folder that all runs share.
        given: a folder that has the files already, or None.

    Raises:
        ValueError: they cannot be had, or are not those of this version.
    """
    if given:
        return _checked({name: _content(given / name) for name in SHA256}, str(given))
    home = store / "web" / f"onnxruntime-web-{VERSION}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        if not all((home / name).is_file() for name in SHA256):
            files = _checked(_from_npm(), f"{PACKAGE} as npm gave it")
            with TemporaryDirectory(dir=home.parent, prefix=".writing-") as folder:
                new = Path(folder) / "new"
                new.mkdir()
                for name, content in files.items():
                    (new / name).write_bytes(content)
                if home.exists():  # incomplete
                    home.rename(Path(folder) / "old")
                new.rename(home)
    return _checked({name: _content(home / name) for name in SHA256}, f"{home} (delete it to fetch it again)")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"--ort: {path} cannot be read ({error.strerror}). {BY_HAND}") from None


def _checked(files: dict[str, bytes], where: str) -> dict[str, bytes]:
    wrong = [name for name, content in files.items() if hashlib.sha256(content).hexdigest() != SHA256[name]]
    if wrong:
        raise ValueError(f"{where}: {', '.join(wrong)} is not that of onnxruntime-web {VERSION}. {BY_HAND}")
    return files


def _from_npm() -> dict[str, bytes]:
    """Download the package (33 MB) and return the three files; nothing of it is run."""
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(f"npm is not installed, which brings {PACKAGE}. Install Node.js; or else: {BY_HAND}")
    print(f"fetching {PACKAGE} with npm, 33 MB, once ...", flush=True)
    with TemporaryDirectory() as folder:
        command = [npm, "pack", PACKAGE, "--ignore-scripts", "--pack-destination", folder]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, encoding="utf-8"
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"npm did not fetch {PACKAGE} within {SECONDS} s. Try again; or else: {BY_HAND}") from None
        packed = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(packed) != 1:
            errors = [line for line in done.stderr.splitlines() if "error" in line.lower() or "ERR!" in line]
            raise ValueError(
                f"npm could not fetch {PACKAGE} ({' '.join((errors or ['no reason given'])[0].split())[:160]}). {BY_HAND}"
            )
        with tarfile.open(packed[0]) as package:
            return {name: package.extractfile(f"package/dist/{name}").read() for name in SHA256}
