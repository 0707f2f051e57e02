"""Read FER+ as its authors distribute it: pixels from fer2013.csv, votes from fer2013new.csv, row by row."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill.data.common.image_files import csv_file
from distill.data.ferplus.label_folders import votes_of
from distill.data.ferplus.protocols import VOTES
from distill.data.packing.reader import Row

PIXELS, VOTE_FILE = "fer2013.csv", "fer2013new.csv"
USAGE = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}
SIZE = 48


class CsvPair:
    """The two csv files; rows without an image name (blank, not a face) are skipped, as the authors' script does.

    Four names occur twice in the published fer2013new.csv; such rows are two pictures here, each with its own pixels.
    """

    def __init__(self, pixels: Path, votes: Path):
        self.pixels, self.votes = pixels, votes
        self.read = [pixels, votes]

    def facts(self) -> dict:
        """Compare the number of rows of the two files; pictures with a name are the ones that will be packed.

        Returns:
            {"votes": name of the file, "rows": number of pictures}.

        Raises:
            ValueError: the files do not have the same number of rows.
        """
        with open(self.pixels, "rb") as file:
            pixels = sum(1 for _ in file)
        named = [len(row) > 1 and row[1].strip() != "" for row, _ in csv_file(self.votes)]
        if pixels != len(named):
            raise ValueError(
                f"{self.pixels} has {pixels:,} rows and {self.votes} has {len(named):,} (with headers); they must have "
                "the same rows in the same order. Take both files as published: 35,888 rows each."
            )
        return {"votes": VOTE_FILE, "rows": sum(named[1:])}

    def rows(self) -> Iterator[Row]:
        """Read both files in step.

        Raises:
            ValueError: a row that cannot be read, or the rows of two other pictures.
        """
        pixel_rows, vote_rows = csv_file(self.pixels), csv_file(self.votes)
        (pixel_header, _), (vote_header, _) = next(pixel_rows, ([], "")), next(vote_rows, ([], ""))
        header, expected = [name.strip() for name in pixel_header], ["Usage", "Image name", *VOTES]
        if not {"pixels", "Usage"} <= set(header):
            raise ValueError(f"{self.pixels} row 1 must be a header with columns pixels and Usage; it is {header[:5]}.")
        if [name.strip() for name in vote_header] != expected:
            raise ValueError(f"{self.votes} row 1 must be the header {','.join(expected)}; it is {vote_header[:5]}.")
        pixel_column, usage_column = header.index("pixels"), header.index("Usage")
        for (pixels, pixel_where), (votes, where) in zip(pixel_rows, vote_rows, strict=True):
            if len(votes) != 2 + len(VOTES):
                raise ValueError(
                    f"{where} has {len(votes)} columns instead of 12: Usage, Image name, and the votes for "
                    f"{', '.join(VOTES)}. Take {VOTE_FILE} from github.com/microsoft/FERPlus again."
                )
            if not votes[1].strip():
                continue
            if len(pixels) <= max(pixel_column, usage_column):
                raise ValueError(f"{pixel_where} has {len(pixels)} columns. Take {PIXELS} as published.")
            usage, vote_usage = pixels[usage_column].strip(), votes[0].strip()
            if usage not in USAGE:
                raise ValueError(f"{pixel_where}: Usage is {usage[:40]!r}; it must be one of {', '.join(USAGE)}.")
            if usage != vote_usage:
                raise ValueError(
                    f"{pixel_where}: Usage is {usage}, but the same row of {VOTE_FILE} says {vote_usage}: the files are not in the "
                    "same order. Take both files as published."
                )
            try:
                values = bytes(map(int, pixels[pixel_column].split()))
            except ValueError as error:
                raise ValueError(
                    f"{pixel_where}: pixels must be whole numbers from 0 to 255 ({error}). Take {PIXELS} as published."
                ) from error
            if len(values) != SIZE * SIZE:
                raise ValueError(
                    f"{pixel_where} has {len(values)} pixels instead of {SIZE * SIZE} ({SIZE}x{SIZE}). Take {PIXELS} as published."
                )
            image = np.frombuffer(values, np.uint8).reshape(1, SIZE, SIZE)
            yield Row(USAGE[usage], votes[1].strip(), image, votes_of(votes[2:], where), pixel_where)
