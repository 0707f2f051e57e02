"""What expression faces show, in pictures, a video or before a camera: python -m distill.predict PATH

PATH is a picture or several, a folder (with the folders in it), a video, or camera (camera:1 is the second one).
  --student NAME      a shipped student, a run folder that was exported, or a .onnx file (./NAME where a shipped
                      one has that name, too); the best shipped one without it
  --crops             each picture is one face: none is searched
  --boxes FILE.csv    rows of path,x,y,width,height: these faces as they are; paths begin at PATH
  --csv FILE          one row per face (and frame), or with the error of a file that cannot be read; - for standard output
  --json FILE         a list of pictures or frames with their faces, - for standard output
  --draw DIR          pictures or the video with boxes and bars; none replaces a file that is no such drawing
  --threshold 0.5     smallest score of a face
  --smallest 20       shorter side of the smallest face, pixels
  --size 640          the longer side that pictures are brought to before they are searched, pixels
  --margin 0.05       around a found face, of its longer side
  --detector auto     blazeface: fast, for faces of more than a tenth of the longer side; centerface: small ones, too, or
                      a file of its own, .onnx; auto: centerface for pictures above 128 pixels, blazeface for small ones
                      and cameras, for a video blazeface on each frame and centerface on one of 30
  --frames N          stop a video or a camera after N frames
  --threads N         all of this process's cores without it
A file that cannot be read gets one message, the others go on, and the exit code is 1. A picture without a face is no error.
Ctrl-C keeps what was seen until then, and the exit code is 130; a camera is ended so, which is no error.
An expression on a face is not an emotion; no answer supports a decision about a person.
"""

import argparse
import sys
import time

from rich.console import Console

from distill.predict.boxes import MARGIN
from distill.predict.detector import LIMITS, SIZE, SMALLEST, THRESHOLD
from distill.predict.job import Job
from distill.system.cli import command_line, number, parser, user_path
from distill.system.console import loud_warnings
from distill.system.cores import cores


def _arguments(words: list[str]) -> argparse.Namespace:
    options = parser("python -m distill.predict", __doc__)
    options.add_argument("paths", nargs="+", metavar="PATH")
    options.add_argument("--student", metavar="NAME")
    whose = options.add_mutually_exclusive_group()
    whose.add_argument("--crops", action="store_true")
    whose.add_argument("--boxes", type=user_path, metavar="FILE.csv")
    options.add_argument("--csv", metavar="FILE")
    options.add_argument("--json", metavar="FILE")
    options.add_argument("--draw", type=user_path, metavar="DIR")
    options.add_argument("--threshold", type=number(float, *LIMITS["threshold"]), default=THRESHOLD)
    options.add_argument("--smallest", type=number(float, *LIMITS["smallest"]), default=SMALLEST)
    options.add_argument("--size", type=number(int, *LIMITS["size"]), default=SIZE)
    options.add_argument("--margin", type=number(float, *LIMITS["margin"]), default=MARGIN)
    options.add_argument("--detector", type=user_path, default="auto", metavar="NAME")
    options.add_argument("--frames", type=number(int, 1), metavar="N")
    options.add_argument("--threads", type=number(int, 1, 1024), default=cores(), metavar="N")
    args = options.parse_args(words)
    if args.csv == args.json == "-":
        options.error("--csv and --json cannot both go to standard output")
    return args


@command_line()
def main(words: list[str]) -> None:
    """Read the command line and do what it asks for; user errors are printed as one line, exit code 1."""
    args = _arguments(words)
    loud_warnings()
    out = Console(stderr="-" in (args.csv, args.json), soft_wrap=True, highlight=False, markup=False)
    job = Job(args)
    start = time.perf_counter()
    printed = job.run(out)
    seconds = time.perf_counter() - start
    if printed.rows:
        out.print(printed.table())
    for message in printed.messages():
        out.print(message)
    what = "frames" if job.opened else "pictures"
    seen = what.removesuffix("s") if printed.frames == 1 else what
    out.print(
        f"{printed.frames:,} {seen}, {printed.without:,} without a face, by {job.student.name}: {seconds:.1f} s, "
        f"{printed.frames / seconds:,.1f} {what}/s"
    )
    if job.stopped and job.index is None:
        sys.exit(130)
    if job.failed:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
