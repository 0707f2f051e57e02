"""What a model card says in words: how a student was trained, what it is for, what its licences are."""

import json
import re
import shlex
from pathlib import Path

from distill.config.ranges import SELECTABLE
from distill.export.card import tables
from distill.export.card.tables import SPLITS, Evidence
from distill.report.number_format import compact, plain
from teachers.peer import is_peer

KINDS = {  # data set -> what its faces are
    "procedural": "drawn, not photographed: a student of them is for trying the tools, not for the faces of people",
    "ferplus": "found in the web by emotion words (in the wild), grey, 48 pixels, labelled by ten people each",
    "fer2013": "found in the web by emotion words (in the wild), grey, 48 pixels",
    "rafdb": "found in the web (in the wild)",
    "affectnet": "found in the web (in the wild)",
    "expw": "found in the web (in the wild)",
    "fedro": "found in the web (in the wild), partly hidden",
    "sfew": "frames of feature films: acted, near to the wild",
    "ckplus": "posed in a laboratory",
    "oulucasia": "posed in a laboratory",
    "jaffe": "posed in a laboratory by ten Japanese women",
}
RANDOM = "random weights"
PIECE = re.compile(r"'[^']*'|\"[^\"]*\"|[^\[\]{},:\s][^\[\]{},:]*")  # of a list or dictionary, as hydra reads it


def training(found: Evidence) -> str:
    """Return the data, the teacher, the recipe, the machine and the command."""
    result, cfg, env = found.run.result, found.run.config, found.run.env
    data, train = result["data"], cfg["train"]
    losses = [f"`{name}` ({_settings(node, ('_target_',))})" for name, node in cfg["loss"].items()]
    versions = ", ".join(f"{name} {version}" for name, version in env.get("packages", {}).items())
    machine = f"{env.get('processor') or 'processor not recorded'}, {env.get('gpu') or 'no GPU'}; {versions}"
    lines = {
        "Data": f"{data['name']}, {data['rows']['train']:,} training faces ({data['protocol']}), "
        f"{KINDS.get(data['name'], 'where they are from is not recorded')}; "
        f"fingerprint `{data.get('fingerprint') or 'not recorded'}`; {_faces_per_class(found)}",
        "Teacher": _teacher(found),
        "Start of the student": result.get("start") or RANDOM,
        "Losses": ", ".join(losses),
        **{key: plain(cfg[key]) for key in ("phases", "generations") if cfg.get(key) not in (None, 1)},
        "Optimiser": f"{_settings(cfg['optimizer'])}; batches of {train.get('batch_size')}; schedule "
        f"{plain(str(cfg['schedule']['_target_']).rsplit('.', 1)[-1])} ({_settings(cfg['schedule'], ('_target_',))})",
        "Epochs": f"{result['epochs']}, of which number {result['best_epoch'] + 1} was the best by {result['select']}",
        "Views": _settings(cfg.get("views", {})),
        "Seed": f"{result['seed']} (one run)",
        "Machine": machine,
        "Run": f"`{result['name']}`, weights sha256 `{found.parity['facts']['weights_sha256']}`",
    }
    listed = "\n".join(f"- {name}: {words}" for name, words in lines.items())
    if not env.get("command"):
        return f"{listed}\n- Command: not recorded; `config.yaml` in the run folder holds every key"
    return f"{listed}\n- Command (of paths their last part):\n\n```\n{without_folders(env['command'])}\n```"


def _faces_per_class(found: Evidence) -> str:
    counts = json.loads(found.parity["facts"].get("train_faces_per_class", "null"))
    if not counts:
        return "how many of each class: not recorded"
    return ", ".join(f"{name} {number:,}" for name, number in zip(found.classes, counts, strict=True))


def without_folders(command: str) -> str:
    """Return a command with the last part of each path alone: a card is read by people who need not know the rest.

    Args:
        command: as a shell reads it.
    """
    return shlex.join(_last_part(word) for word in shlex.split(command))


def _last_part(word: str) -> str:
    """Return KEY=VALUE with the last part of each path in the value; a list's or dictionary's each."""
    key, equals, value = word.partition("=") if "=" in word else ("", "", word)
    if value.removeprefix("-") in SELECTABLE:
        return word
    if value.startswith(("[", "{")):
        return key + equals + PIECE.sub(lambda piece: _name(piece[0]), value)
    return key + equals + _name(value)


def _name(text: str) -> str:
    return Path(text.strip("'\"")).name if "/" in text else text


def _settings(node: dict, without: tuple[str, ...] = ()) -> str:
    known = {key: value for key, value in node.items() if key not in without and value is not None}
    return ", ".join(f"{key} {plain(value)}" for key, value in known.items()) or "no settings"


def _teacher(found: Evidence) -> str:
    teacher = found.run.result.get("teacher")
    if not teacher:
        return "none; learnt from labels alone"
    shares = [
        f"{words} top-1 {tables.percent(teacher['metrics'][f'{split}/top1_accuracy'])}"
        for split, words in SPLITS.items()
        if f"{split}/top1_accuracy" in teacher.get("metrics", {})
    ]
    said = ", ".join([f"{teacher['name']} ({compact(teacher.get('num_parameters', 0))} parameters)", *shares])
    return f"{said}; {_start(found)}"


def _start(found: Evidence) -> str:
    """Return what the teacher's fine-tuning began with, or each of its members'."""
    node = found.run.config["teacher"]
    if is_peer(node):
        return "it learnt beside the student, in the same run"
    members = list(node["members"].values()) if "members" in node else [node]
    return f"it started from {', '.join(map(_began, members, _starts(found)))}"


def _starts(found: Evidence) -> list[str | None]:
    """Return in a word what each of the teacher's networks began with; of a peer nothing."""
    return found.run.result["teacher"].get("start", ["not recorded"])


def _began(member: dict, start: str | None) -> str:
    """Return what one network began with; scratch, or nothing said, is the random start of a network."""
    words = RANDOM if start in (None, "scratch") else str(start)
    if member.get("run"):
        return f"the finished run {plain(str(member['run']))}, which started from {words}"
    return f"{words} ({plain(str(member['weights']))})" if member.get("weights") else words


def limits(found: Evidence) -> str:
    """Return what the student is for and not for, and what is not known."""
    data = found.run.result["data"]["name"]
    weak = "".join(f"\n- {sentence}" for sentence in tables.weak_classes(found))
    return f"""\
For research on facial expressions and on small networks, and for tools that a person uses on their own face and can ignore.

- An expression is not an emotion: what a face shows does not tell what a person feels, thinks, intends or is.
- Not for decisions about people: not for hiring, schools, policing, border control, justice, insurance, credit, medicine,
  advertising or surveillance; in some places such uses are forbidden by law.
- Its faces ({data}): {KINDS.get(data, "whether they were posed or found is not recorded")}. On others expect less:
  posed faces do not tell how it does in the wild, nor the other way round.
- Who is under-represented is not known: age, gender, skin colour and culture of the faces are not recorded, and errors were not
  compared between groups of people.
- The labels are other people's opinions of a face; a part of what counts as wrong here is doubtful.
- It answers with one of its classes whatever the picture shows, a wall too: find the face first.{weak}"""


def licence(found: Evidence) -> str:
    """Return what is known of the licences of data, starts and code."""
    facts = found.parity["facts"]
    lines = [f"- Data: {facts['licence_of_the_data']}"]
    if found.run.result.get("teacher"):
        trained = not set(_starts(found)) <= {None, "scratch"}
        unknown = "; the licence of that start is not recorded: ask where it came from" if trained else ""
        lines.append(f"- Teacher: {_start(found)}{unknown}")
    if found.run.result.get("start") in ("weights", "pretrained"):
        lines.append(
            "- Student: it started from trained weights; their licence is not recorded: ask where they came from"
        )
    return "\n".join([*lines, f"- Code: {facts['licence_of_the_code']}."])
