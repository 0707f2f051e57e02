"""Plots as SVG text: two scales, thin axes, marks that carry the number of their configuration for the page's script."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 520, 340
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 30, 42
LETTER = 8  # of an axis, with some air
STEPS = (1, 2, 5, 10)
TICKS = 8  # of an axis at most
Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """A range of numbers, linear or logarithmic, with its ticks and how they are written."""

    low: float
    high: float
    log: bool = False
    write: Callable[[float], str] = "{:g}".format
    marks: tuple[float, ...] = ()

    def share(self, value: float) -> float:
        """Return where a value lies: 0 at the low end, 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        if self.marks:
            return list(self.marks)
        if not self.log:
            rough = (self.high - self.low) / TICKS
            power = 10 ** math.floor(math.log10(rough))
            step = next(s * power for s in STEPS if s * power >= rough * (1 - 1e-9))
            first = math.ceil(self.low / step - 1e-9)
            return [round(k * step, 12) for k in range(first, math.floor(self.high / step + 1e-9) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
            ticks = [d * 10**k for k in decades for d in digits if self.low <= d * 10**k <= self.high]
            if len(ticks) >= 3:
                break
        return ticks[:: max(1, -(-len(ticks) // TICKS))]


def scale(
    values: Iterable[float], log: bool = False, write=None, margin: float = 0.06, at: Sequence[float] = ()
) -> Scale:
    """Return a scale that holds the values with some air; at are the ticks, where they are to be the values themselves."""
    values = [*values]
    low, high = min(values), max(values)
    write = write or "{:g}".format
    if log:
        air = max((high / low) ** margin, 1.15)
        return Scale(low / air, high * air, True, write, tuple(at))
    air = (high - low) * margin or abs(high) * 0.05 or 1.0
    return Scale(low - air, high + air, False, write, tuple(at))


def percent(value: float) -> str:
    """Return a share in [0, 1] in percent, without the sign, as the marks of an axis are written."""
    return f"{100 * value:g}" if abs(100 * value - round(100 * value)) > 1e-6 else f"{100 * value:.0f}"


class Plot:
    """One plot; every mark is given in the units of its scales.

    Args:
        x: horizontal scale.
        y: vertical scale.
        x_title: below the axis.
        y_title: above the axis.
        width: in units of its own box; the page scales it.
        height: likewise.
        left: room for the ticks' words on the left.
    """

    def __init__(self, x: Scale, y: Scale, x_title: str, y_title: str, width=WIDTH, height=HEIGHT, left=LEFT):
        self.x, self.y, self.width, self.height, self.left = x, y, width, height, left
        self.top = TOP if y_title else 4
        self.parts: list[Markup] = []
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        for tick in self.y.ticks():
            _, y = self.place((self.x.low, tick))
            self._add('<path class="grid" d="M{} {:.1f}H{}"/>', self.left, y, right)
            self.text(self.left - 8, y + 4, self.y.write(tick), "tick end")
        self._add('<path class="axis" d="M{} {}H{}"/>', self.left, bottom, right)
        end = 0.0  # of the words before: those that would lie on them are left out
        for tick in self.x.ticks():
            x, _ = self.place((tick, self.y.low))
            self._add('<path class="axis" d="M{:.1f} {}v4"/>', x, bottom)
            half = LETTER * len(self.x.write(tick)) / 2
            if x - half > end:
                self.text(x, bottom + 18, self.x.write(tick), "tick middle")
                end = x + half
        if y_title:
            self.text(2, 13, y_title, "title")
        self.text(right, self.height - 6, x_title, "title end")

    def place(self, point: Point) -> Point:
        """Return a point in the units of the picture."""
        right = self.left + self.x.share(point[0]) * (self.width - self.left - RIGHT)
        return right, self.height - BOTTOM - self.y.share(point[1]) * (self.height - self.top - BOTTOM)

    def _add(self, markup: str, *values: object) -> None:
        self.parts.append(Markup(markup).format(*values))

    def text(self, x: float, y: float, words: str, classes: str = "", number: int | None = None) -> None:
        """Write words at a place of the picture."""
        self._add('<text x="{:.1f}" y="{:.1f}" class="{}"{}>{}</text>', x, y, classes, _of(number), words)

    def line(self, points: Sequence[Point], classes: str, number: int | None = None) -> None:
        self._add('<path class="{}" d="{}"{}/>', classes, self._path(points), _of(number))

    def dot(
        self, point: Point, classes: str = "dot", radius: float = 4.5, number: int | None = None, tip: str = ""
    ) -> None:
        more = Markup(' data-tip="{}"').format(tip) if tip else ""
        circle = '<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:g}"{}{}/>'
        self._add(circle, classes, *self.place(point), radius, _of(number), more)

    def band(self, points: Sequence[tuple[float, float, float]], classes: str) -> None:
        """Fill between the low and the high ends (x, low, high)."""
        border = [(x, high) for x, _, high in points] + [(x, low) for x, low, _ in points[::-1]]
        self._add('<path class="{}" d="{}Z"/>', classes, self._path(border))

    def _path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in map(self.place, points))

    def svg(self, title: str) -> Markup:
        """Return the picture with a title for those who do not see it."""
        frame = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
        return frame.format(self.width, self.height, title, Markup("").join(self.parts))


def _of(number: int | None) -> Markup:
    return Markup("") if number is None else Markup(' data-c="{}"').format(number)


BESIDE = (  # where words go beside a point, the best place first: a front runs to the right and comes from below
    *((-6, -8, "end"), (-10, 4, "end"), (8, 17, "start"), (7, -9, "start")),
    *((10, 4, "start"), (-7, 17, "end"), (0, -12, "middle"), (0, 21, "middle")),
)


def place_labels(
    wanted: Sequence[tuple[float, float, str]], taken: Sequence[Point]
) -> list[tuple[float, float, str] | None]:
    """Return (x, y, anchor) beside each point so that words cover neither words nor points; None where there is no place.

    Words are nowhere nearer to another point than to their own.

    Args:
        wanted: (x, y, words) of the points in the picture, the most important first.
        taken: places of all points.
    """
    boxes, places = [(x - 5, y - 5, x + 5, y + 5) for x, y in taken], []
    for x, y, words in wanted:
        for dx, dy, anchor in BESIDE:
            width = 7 * len(words)
            left, foot = x + dx - {"start": 0, "middle": width / 2, "end": width}[anchor], y + dy
            box = (left, foot - 11, left + width, foot + 3)
            inside = box[0] > LEFT and box[2] < WIDTH and box[1] > TOP - 14 and box[3] < HEIGHT - BOTTOM
            disjoint = (box[0] >= b[2] or b[0] >= box[2] or box[1] >= b[3] or b[1] >= box[3] for b in boxes)
            near, *others = (_distance(box, point) for point in ((x, y), *taken))
            if inside and all(disjoint) and near <= min(others, default=near):
                boxes.append(box)
                places.append((x + dx, y + dy, anchor))
                break
        else:
            places.append(None)
    return places


def _distance(box: tuple[float, float, float, float], point: Point) -> float:
    """Return how far a point is from a box (left, top, right, foot); 0 within."""
    across = max(box[0] - point[0], 0, point[0] - box[2])
    return math.hypot(across, max(box[1] - point[1], 0, point[1] - box[3]))
