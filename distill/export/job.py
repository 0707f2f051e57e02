"""One export: the files of a finished run that pass the gate, and what the gate measured."""

import errno
import os
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from distill.evaluation.metrics import bootstrap
from distill.export import parity, source_run
from distill.export import weights_and_config as package
from distill.export.card import card
from distill.export.formats import FILES, ExportFormat, export_formats, load_exported
from distill.export.options import Options
from distill.export.runtimes import PARITY
from distill.runs.folder import RunFolder
from distill.system.cli import format_error
from distill.system.files import sha256, write_json, write_text
from distill.system.hardware import environment
from distill.types import Dataset

WRITING = ".writing-"
# a full disk, an output that was closed or whose reader or terminal left
OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPIPE, errno.EBADF, errno.EIO)


def export(folder: Path, options: Options, words: list[str]) -> dict:
    """Write the files of a finished run that pass the parity check.

    Args:
        folder: the run folder.
        options: what is asked for.
        words: KEY=VALUE of source_run.TAKEN.

    Returns:
        What RUN/export/parity.json holds: files: name -> numbers, with the sha256 of each that was written; refused:
        name -> message; left_out: messages.

    Raises:
        ValueError: no finished run, its data are gone, its network cannot be exported at all, or another process is at
            work on it; an earlier export stays as it is then.
    """
    run = source_run.read_run(folder, words)
    with RunFolder(folder).lock(wait=False):
        run, data, wanted, facts = _with_reference(run, options)
        target, left_out = export_folder(folder, options), list[str]()
        files, refused = dict[str, dict](), dict[str, str]()
        target.mkdir(parents=True, exist_ok=True)
        for left in target.glob(f"{WRITING}*"):  # by an export that was killed
            shutil.rmtree(left, ignore_errors=True)
        with TemporaryDirectory(dir=target, prefix=WRITING) as temporary:
            kept: tuple[str, ...] = ()
            for form in export_formats(run, data, options, left_out.append):
                numbers, problem = _save_and_measure(form, Path(temporary), run, options, facts, wanted)
                files |= {form.files[0]: numbers}
                refused |= {form.files[0]: f"{problem}. {form.hint}"} if problem else {}
                kept += () if problem else form.files
            for name in (PARITY, *FILES, *([card.NAME] if options.preprocess else [])):
                (target / name).unlink(missing_ok=True)  # of an earlier export: it would be taken for one of this
            for name in kept:
                os.replace(Path(temporary) / name, target / name)
        report = {"run": facts["run"], "options": vars(options), "files": files, "refused": refused}
        report |= {"left_out": left_out, "facts": facts, "environment": environment()}
        write_json(target / PARITY, report)  # last, so that it never speaks of other files
        if options.preprocess:
            try:
                write_text(target / card.NAME, card.card(folder))
            except Exception as error:  # of an older or damaged run folder: the files are proven all the same
                left_out.append(f"{card.NAME}: not written: {format_error(error, inside=True)}.")
                write_json(target / PARITY, report)
        return report


def rounded_weights(folder: Path, target: Path, options: Options) -> dict:
    """Write student.safetensors, in float16, and config.json of an exported run; return what the gate measured of them.

    Args:
        folder: the run folder.
        target: where to.
        options: those of its export.

    Raises:
        ValueError: no finished run, its data are gone, or the rounded weights lose what an int8 file may not lose.
    """
    run, _, wanted, facts = _with_reference(source_run.read_run(folder, []), options)
    write = partial(package.save_run, half=True)
    form = ExportFormat((package.WEIGHTS, package.CONFIG), lambda: run, write, exact=False)
    numbers, problem = _save_and_measure(form, target, run, options, facts, wanted)
    if problem:
        raise ValueError(f"{folder}: its weights, rounded to float16: {problem}. Publish it without --compact.")
    return numbers


def _with_reference(
    run: source_run.SourceRun, options: Options
) -> tuple[source_run.SourceRun, Dataset, parity.ReferenceOutputs, dict[str, str]]:
    """Return the run with its temperature, its data, what its files are measured by, and the facts that go into them."""
    data = source_run.faces(run)
    split = data.splits["valid"]
    recorded, labeled = source_run.recorded(run, data), split.is_labeled
    if not labeled:  # what a file must keep is then the run's own answer
        split = replace(split, label=recorded.argmax(1))
    wanted = parity.reference(run.student, split, options.preprocess)
    wanted = parity.refuse_changed_student(run.student, wanted, recorded, run.result.eval.get("tta", "plain"))
    if options.calibrate and labeled:
        run = run._replace(temperature=float(run.result.calibration["temperature"]))
        wanted = parity.calibrated(wanted, run.temperature)
    known = (wanted.accuracy, bootstrap(wanted.logits, split.label)) if labeled else None
    return run, data, wanted, source_run.facts(run, data, known)


def export_folder(folder: Path, options: Options) -> Path:
    """Return where a run's exported files go: the bare network's apart."""
    return folder / "export" if options.preprocess else folder / "export" / "bare"


def _save_and_measure(
    form: ExportFormat,
    folder: Path,
    run: source_run.SourceRun,
    options: Options,
    facts: dict,
    wanted: parity.ReferenceOutputs,
) -> tuple[dict, str | None]:
    """Make one form in a folder and measure it; return the numbers, and why it is refused or None."""
    numbers = {}
    try:
        form.write(form.make(), folder / form.files[0], facts)
        file = load_exported(form, folder, options, run.cfg.plugins)
        seen = wanted if None in file.shape[1:3] else replace(wanted, resized=())  # a file for pictures of one size
        spec = None if options.preprocess else run.student.input
        measured = parity.measure(file.answer, seen, spec, form.files[0])
        problem, numbers = parity.parity_failure(measured, form.exact), asdict(measured)
        if problem:
            return numbers, problem
        more = {"file_agreement_with_pytorch": str(measured.agreement)}
        more |= {"file_top1_accuracy": str(measured.accuracy)} if "valid_top1_accuracy" in facts else {}
        form.write(form.make(), folder / form.files[0], facts | more)
    except Exception as error:  # each converter and engine raises its own: the other forms do not depend on it
        if getattr(error, "errno", None) in OF_THE_MACHINE or os.strerror(errno.ENOSPC) in str(error):
            raise  # an earlier export stays as it is
        return numbers, format_error(error, inside=True)
    written = [folder / name for name in form.files]
    sizes = {"bytes": sum(path.stat().st_size for path in written if path.suffix != ".json")}
    return numbers | sizes | {"sha256": {path.name: sha256(path) for path in written}}, None


def refusals(report: dict) -> list[str]:
    """Return a message for each file that did not pass the gate, see export."""
    return [f"{name}: {message}" for name, message in report["refused"].items()]
