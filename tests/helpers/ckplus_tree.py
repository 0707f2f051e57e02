"""Writes a tiny CK+ of plain pictures in its three forms: the authors' archives, published lists, CK+48."""

from PIL import Image

CANONICAL = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")  # CK+'s numbers
FOLDERS = ("neutral", "anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
PERSONS = [f"S{n:03}" for n in (5, 10, 11, 14, 22, 26, 28, 32, 34, 35, 37, 42)]
LENGTH = 6  # frames of a sequence


def label_of(person, sequence):
    """Return CK+'s number of a sequence: person i has 1..7 in sequences 1..7."""
    return sequence


def frame(person, sequence, number):
    return f"{person}/{sequence:03}/{person}_{sequence:03}_{number:08}.png"


def grey(name):
    """Return the grey of a frame, which tells its sequence and number."""
    _, sequence, number = name.rsplit("/", 1)[-1].removesuffix(".png").split("_")
    return 20 * int(sequence) + 2 * int(number)


def sequences():
    return [(person, sequence) for person in PERSONS for sequence in range(1, 8)]


def last(person, sequence):
    return [frame(person, sequence, number) for number in range(LENGTH - 2, LENGTH + 1)]


def write_picture(path, level, size=(24, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).save(path)


def write_frames(root, size=(24, 20)):
    """Write the frames of every sequence."""
    for person, sequence in sequences():
        for number in range(1, LENGTH + 1):
            name = frame(person, sequence, number)
            write_picture(root / name, grey(name), size)


def write_authors(root):
    """Write cohn-kanade-images and Emotion; sequence 8 of each person has frames but no label, as most have not."""
    write_frames(root / "cohn-kanade-images")
    for person, sequence in sequences():
        folder = root / "Emotion" / person / f"{sequence:03}"
        folder.mkdir(parents=True)
        text = f"   {label_of(person, sequence):.7e}\n"  # as published
        (folder / f"{person}_{sequence:03}_{LENGTH:08}_emotion.txt").write_text(text)
    for person in PERSONS:
        write_picture(root / "cohn-kanade-images" / frame(person, 8, 1), 250)
        (root / "Emotion" / person / "008").mkdir()
    return root


def write_landmarks(root, points):
    """Write the same landmarks for every frame, lines of x and y."""
    text = "".join(f"   {x:.7e}   {y:.7e}\n" for x, y in points)
    for person, sequence in sequences():
        folder = root / "Landmarks" / person / f"{sequence:03}"
        folder.mkdir(parents=True)
        for number in range(1, LENGTH + 1):
            (folder / f"{person}_{sequence:03}_{number:08}_landmarks.txt").write_text(text)


def write_lists(root, folds=True):
    """Write aligned frames, metafile/CK+last3frameslabels.txt, and metafile/cv: fold k tests persons k and k + 6."""
    write_frames(root / "cohn_kanade_images_aligned")
    (root / "metafile" / "cv").mkdir(parents=True)
    rows = [f"{name} {label_of(*at)}\n" for at in sequences() for name in last(*at)]
    (root / "metafile" / "CK+last3frameslabels.txt").write_text("".join(rows))
    for k in range(6):
        tested = {PERSONS[k], PERSONS[k + 6]}
        for part in ("test", "train"):
            names = [n for at in sequences() if (at[0] in tested) == (part == "test") for n in last(*at)]
            text = "".join(f"{name.rsplit('/', 1)[-1]}\n" for name in names)
            (root / "metafile" / "cv" / f"{part}_ids_{k}.csv").write_text(text)
    return root


def write_faces48(root):
    """Write the folders anger, contempt, ... of 48x48 faces: the last three frames of every sequence."""
    for at in sequences():
        for name in last(*at):
            write_picture(root / FOLDERS[label_of(*at)] / name.rsplit("/", 1)[-1], grey(name), (48, 48))
    return root
