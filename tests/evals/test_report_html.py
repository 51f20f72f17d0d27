"""The page: balanced, self-contained, escaped, and with every figure of the board."""

import math
import re
from html.parser import HTMLParser

import pytest

from finllm_utils.evals.report.blocks import (
    Heading,
    Table,
    Text,
    html_page,
    markdown_page,
)
from finllm_utils.evals.report.charts import CENTRE_X, CENTRE_Y, RADIUS, curve, radar
from finllm_utils.evals.report.compare_boards import compare_boards
from finllm_utils.evals.report.page import report_blocks, write_report
from finllm_utils.evals.report.scoreboard import read_scoreboard, write_scoreboard
from tests.evals.small_board import EVIL, RESAMPLING, RIGHT, small_board, small_measured

VOID = {"meta", "br", "link", "img"}
ADDRESSES = {"src", "href", "action", "data", "srcset", "xlink:href"}


class Page(HTMLParser):
    """Collects tags, addresses, ids and text; fails on a tag that does not balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.addresses = [], [], []
        self.ids, self.texts = [], []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} has {name}"
            if name in ADDRESSES:
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


@pytest.fixture(scope="module")
def board():
    return small_board(alarms=[f"exam fell {EVIL}"], leaks=[])


@pytest.fixture(scope="module")
def comparison(board):
    before = small_measured()
    after = small_measured(RIGHT | {("exam", "ppo"): 36})
    records = [{(m.measure, m.model): m.scores for m in run} for run in (before, after)]
    return compare_boards(board, small_board(after), *records, **RESAMPLING)


@pytest.fixture(scope="module")
def pages(board, comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    paths = write_report(
        board, folder, title=f"Run {EVIL}", comparison=comparison, other=f"run {EVIL}"
    )
    return [path.read_text(encoding="utf-8") for path in paths]


def test_tags_balance_and_nothing_comes_from_outside(pages):
    page = Page(pages[0])
    assert "script" not in page.tags and "link" not in page.tags
    assert page.addresses and all(a.startswith("#") for a in page.addresses)
    assert {a[1:] for a in page.addresses} == set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    style = re.search("<style>(.*?)</style>", pages[0], re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style
    assert "prefers-color-scheme: dark" in style and "viewport" in pages[0]
    assert "default-src 'none'" in pages[0]


def test_answers_of_models_are_shown_and_never_run(pages):
    page = Page(pages[0])
    assert "<script" not in pages[0] and EVIL in page.text
    assert "<script" not in pages[1] and "](http" not in pages[1]
    assert "<b>" not in pages[0]


def test_every_number_of_the_board_is_on_both_pages(board, comparison, pages):
    text = Page(pages[0]).text
    for shown in (text, pages[1]):
        for cell in board.cells:
            low, high = cell.interval
            assert f"{cell.value:.3f}" in shown
            assert f"[{low:.3f}, {high:.3f}]" in shown
            assert f"n={cell.num_items}" in shown
            assert cell.command in shown
        assert "n=38, 2 failed" in shown
        for change in (*board.changes, *comparison.changes):
            low, high = change.interval
            assert f"{change.value:+.4f}" in shown
            assert f"[{low:+.4f}, {high:+.4f}]" in shown
        for measure in board.measures:
            assert measure.title in shown
            assert measure.baseline is None or f"{measure.baseline:.3f}" in shown
        for word in ("chance", "an empty answer", "题目 12", "other"):
            assert word in shown


def test_sections_and_warnings_stand_first(board, pages):
    sections = re.findall("^## (.*)$", pages[1], re.MULTILINE)
    assert sections == [
        "What stands out",
        "Against another run",
        "How the models compare",
        "The four abilities",
        "What each stage added",
        "Alignment tax",
        "Forgetting",
        "Which model for which scene",
        "Examples that changed",
        "How to read and remake it",
    ]
    top = pages[1].split("## Against")[0]
    assert "**Alarm: exam fell" in top and "No test items in the training data" in top
    assert "**Worse: Finance exam got worse from sft2 to ppo by 0.4500.**" in top
    assert "**Worse: English bpb got worse from base to sft2 by" in top
    assert "2 figures clearly better, 2 clearly worse, 2 without" in top
    assert "2 items could not be scored" in top
    assert "made 1 of 3 measures clearly worse and 0 clearly better" in pages[1]
    assert "This card makes 8 comparisons" in pages[1]
    assert f"about {0.05 * 8:.1f} would look clear" in pages[1]
    assert "Not measured: 中文 (Chinese), 应用 (application)" in pages[1]


def test_names_and_commands_are_escaped_wherever_they_stand(tmp_path):
    """Names of models, measures and commands come from users."""
    write_scoreboard(small_board(), [], tmp_path)
    path = tmp_path / "scoreboard.json"
    text = path.read_text(encoding="utf-8")
    for name in ('"ppo', '"English', '"score', '"chance', '"exam"'):
        text = text.replace(name, f'"<i>{name[1:]}')
    path.write_text(text, encoding="utf-8")
    blocks = report_blocks(read_scoreboard(tmp_path))
    page, markdown = html_page("t", blocks), markdown_page("t", blocks)
    assert "`<i>score exam --models all`" in markdown, "code is shown as it stands"
    for made in (page, re.sub("`[^`]*`", "&lt;i&gt;score", markdown)):
        assert "<i>" not in made
        for name in ("ppo", "English", "score", "chance", "exam"):
            assert f"&lt;i&gt;{name}" in made, name


def test_what_nobody_looked_for_is_said():
    text = markdown_page("t", report_blocks(small_board()))
    assert "Nobody looked for test items in the training data" in text
    assert "Nobody looked for alarms" in text
    assert "Against another run" not in text


def test_a_change_that_may_be_chance_is_named_apart():
    """5 of 40 lost: its interval leaves zero out, and 2/32 does not beat 5%."""
    measured = small_measured(RIGHT | {("dialogue", "ppo"): 25})
    top = markdown_page("t", report_blocks(small_board(measured))).split("## How")[0]
    assert "may be chance: Dialogue rules (sft2 to ppo)." in top
    assert "Worse: Dialogue" not in top


def test_a_board_of_one_model_still_makes_a_page():
    measured = [m for m in small_measured() if m.model == "other"]
    blocks = report_blocks(small_board(measured))
    Page(html_page("t", blocks))
    text = markdown_page("t", blocks)
    assert "Fewer than two stages were measured" in text
    assert "No aligned model was measured" in text
    assert "No item with an answer to read changed" in text


def test_markdown_shows_text_as_it_stands():
    rows = [["a|b\n*c*", Text("x | `y`", "code"), "<i>", "[a](b)"]]
    text = markdown_page(
        "t_1", [Heading("h"), Table("cap", ["p", "q", "r", "s"], rows)]
    )
    assert "# t\\_1\n" in text
    assert r"| a\|b<br>\*c\* | `x \| 'y'` | &lt;i&gt; | [a]\(b) |" in text


def test_radar_puts_values_where_they_belong():
    svg = radar(["a", "b", "c", "d"], {"<m>": [1.0, 0.5, -3.0, None]}, "t <&>")
    assert ">&lt;m&gt;</text>" in svg
    dots = [
        (float(x), float(y))
        for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    ]
    assert dots == [
        (CENTRE_X, CENTRE_Y - RADIUS),  # up, on the rim
        (CENTRE_X + RADIUS / 2, CENTRE_Y),  # right, halfway
        (CENTRE_X, CENTRE_Y),  # below the baseline: held to the centre
    ]
    assert (
        svg.count('stroke="var(--c0, #1f5fbf)"') == 3
    )  # two sides and the legend; a gap at d
    assert 'aria-label="t &lt;&amp;&gt;"' in svg
    Page(svg)
    with pytest.raises(ValueError, match="most 6 models"):
        radar(["a"], {str(i): [0.0] for i in range(7)}, "")
    with pytest.raises(ValueError, match="0 axes"):
        radar([], {}, "")


def test_curve_is_higher_for_more_and_shows_its_baseline():
    svg = curve("t", ["a", "<b>"], [0.2, 0.6], [(0.1, 0.3), (0.5, 0.7)], 0.25)
    Page(svg)
    heights = [float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', svg)]
    # 0.1 to 0.7 and a margin of 0.048 each: 0.696 over 120 points
    assert heights[0] - heights[1] == pytest.approx(0.4 / 0.696 * 120, abs=0.11)
    assert "stroke-dasharray" in svg and "&lt;b&gt;: 0.600 [0.500, 0.700]" in svg
    flat = curve("t", ["a"], [0.5], [(0.5, 0.5)])
    assert "stroke-dasharray" not in flat
    assert all(map(math.isfinite, map(float, re.findall(r'cy="([^"]+)"', flat))))
