"""The eight expression names in the order every data set here stores them, and the orders that label files use."""

EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
SEVEN = EMOTIONS[:7]

# The number in a file -> its name: TABLE[number - first number].
RAFDB = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")  # from 1; subset lists from 0
FER2013 = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
EXPW = FER2013
AFFECTNET = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
SFEW = AFFECTNET[:7]
CK_PLUS = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
OULU_CASIA = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise")
JAFFE = OULU_CASIA

SYNONYMS = {
    "neural": "neutral",  # as the folders of FED-RO are spelled
    "normal": "neutral",
    "happy": "happiness",
    "joy": "happiness",
    "surprised": "surprise",
    "suprise": "surprise",
    "sad": "sadness",
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "contemptuous": "contempt",
}


def canonical(name: str) -> str | None:
    """Return the canonical emotion of a name such as Happy or ANGRY, None where it is no emotion known here."""
    word = name.strip().lower()
    word = SYNONYMS.get(word, word)
    return word if word in EMOTIONS else None


def numbered(text: str, table: tuple[str, ...], classes: tuple[str, ...], where: str, first: int = 0) -> int:
    """Turn the number in a label file into an index of classes.

    Args:
        text: as read, e.g. "5".
        table: the names in the order of the file's numbers, one of the tables above.
        classes: the order wanted; it holds every name of the table.
        where: file and row.
        first: the smallest number, 0 or 1.

    Raises:
        ValueError: the text is no number of the table.
    """
    number = int(text) - first if text.strip().isdecimal() else -1
    if not 0 <= number < len(table):
        known = ", ".join(f"{i} {name}" for i, name in enumerate(table, first))
        raise ValueError(f"{where}: {text[:40]!r} is no label. Write one of {known}.")
    return classes.index(table[number])


def named(name: str, classes: tuple[str, ...], where: str) -> int:
    """Turn an emotion's name or a synonym of it into an index of classes.

    Raises:
        ValueError: the name is not one of classes.
    """
    emotion = canonical(name)
    if emotion not in classes:
        raise ValueError(f"{where}: {name!r} is none of the classes {', '.join(classes)}. Rename or remove it.")
    return classes.index(emotion)
