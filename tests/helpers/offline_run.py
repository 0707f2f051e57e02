"""Reads what an offline wandb run leaves on disk."""

import json
import time


def records(folder):
    """Returns the records of a folder's one offline run, once its writer, a process of its own, has closed it."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 20
    while not of_kind(found := decode(path.read_bytes()), "exit"):
        assert time.monotonic() < deadline, f"{path} was not closed"
        time.sleep(0.05)
    return found


def decode(data):
    """Reads a LevelDB log of protocol buffers after a 7-byte header."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, whole, found = 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # too short for a record's header: padding
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + 7 + length > len(data):  # still being written
            break
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a full record, or the last part of one
            found.append(Record.FromString(whole))
            whole = b""
    return found


def of_kind(found, kind):
    return [getattr(record, kind) for record in found if record.WhichOneof("record_type") == kind]


def items(row):
    """Names (plain or nested) and values of a history, summary or config record."""
    return {entry.key or "/".join(entry.nested_key): json.loads(entry.value_json) for entry in row}


def summary(found):
    numbers = {}
    for record in of_kind(found, "summary"):
        numbers |= items(record.update)
    return numbers
