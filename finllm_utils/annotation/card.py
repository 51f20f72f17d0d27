"""The card in JupyterLab: shows a session's items and takes verdicts by key or mouse.

ipywidgets has no key events, so a small script turns a key pressed inside the card into
a click on the button of that key; every other path is plain ipywidgets. All judging is
in ``session``; nothing here writes a file.

The card of the task rewrite has an editor and a field for the reason: the rater accepts
the text as it is, saves an edited one, or rejects it, which needs a reason.
"""

import html
from collections.abc import Callable

from finllm_utils.annotation.card_keys import SAVE_MARK, SCRIPT, STYLE, read_order
from finllm_utils.annotation.session import Choice, Session, Shown

TOO_FAST_S = 0.3
"""Nobody judges sooner after an item appears: a second press meant the item before."""
BUTTONS = {
    "keep_drop": (("k", "Keep", "keep"), ("d", "Drop", "drop")),
    "ab": (("1", "1 is better", 1), ("2", "2 is better", 2), ("t", "Tie", "tie")),
    "graded": (
        ("1", "A3: A much better", "A3"),
        ("2", "A2: A better", "A2"),
        ("3", "A1: A a little better", "A1"),
        ("4", "A0: A by a hair", "A0"),
        ("5", "B0: B by a hair", "B0"),
        ("6", "B1: B a little better", "B1"),
        ("7", "B2: B better", "B2"),
        ("8", "B3: B much better", "B3"),
    ),
    "rewrite": (),
    "rank": (),
}
"""Task -> (key, what the button says, the verdict)."""


def show_card(session: Session) -> "Card":
    """Displays the card for ``session`` under the cell; verdicts go to its file."""
    from IPython.display import Javascript, display

    card = Card(session)
    display(card.box, Javascript(SCRIPT))
    return card


class Card:
    """The widgets of one session. ``box`` is what to display."""

    def __init__(self, session: Session) -> None:
        import ipywidgets as widgets

        self.session = session
        task = next(iter(session.items.values())).task
        self.head, self.texts, self.note = (widgets.HTML() for _ in range(3))
        self.editor = widgets.Textarea(rows=10, continuous_update=False)
        self.editor.layout.width = "98%"
        self.editor.observe(self._edited, "value")
        self.reason = widgets.Text(continuous_update=False)
        self.reason.placeholder = "Reason: a reject needs one, else as you like"
        self.reason.layout.width = "98%"
        self._filling = False
        self.buttons: dict[str, widgets.Button] = {}
        self._ranking: list[list[int]] = []
        self._joining = False
        for key, label, choice in BUTTONS[task]:
            self._button(key, label, lambda choice=choice: self._judge(choice))
        if task == "rewrite":
            self._button("a", "Accept as it is", self._accept)
            self._button("save", "Save (Ctrl+Enter)", self._save)
            self._button("r", "Reject", self._reject)
        if task == "rank":
            self._ranking_buttons()
        self._button("s", "Skip", lambda: self._step(session.skip))
        self._button("u", "Undo", self._undo)
        row = widgets.HBox(tuple(self.buttons.values()))
        row.layout.flex_flow = "row wrap"
        parts = [widgets.HTML(STYLE), self.head, row, self.note, self.texts]
        parts += [self.editor, self.reason] if task == "rewrite" else []
        self.box = widgets.VBox(parts)
        self.box.add_class("finllm-card")
        self._show()
        if session.changed:
            count = len(session.changed)
            self._say(f"Changed since they were judged, so shown again: {count}.")

    def _button(self, key: str, label: str, act: Callable[[], None]) -> None:
        import ipywidgets as widgets

        shown = label if key == "save" else f"{label} [{key}]"
        button = widgets.Button(description=shown)
        button.layout.width = "auto"
        names = {"=": "equal", "Backspace": "backspace"}
        button.add_class(f"finllm-key-{names.get(key, key)}")
        button.on_click(lambda _: act())
        self.buttons[key] = button

    def _ranking_buttons(self) -> None:
        most = max(len(item.texts) for item in self.session.items.values())
        for number in range(1, most + 1):
            self._button(
                str(number), f"next best: {number}", lambda n=number: self._place(n)
            )
        self._button("=", "equal to the last", self._join)
        self._button("Backspace", "start over", self._start_over)

    def _place(self, number: int) -> None:
        """The next text of the ranking; the last one ends the judgement."""
        shown = self.session.next()
        placed = {n for group in self._ranking for n in group}
        if shown is None or number in placed or number > len(shown.texts):
            return
        if self._joining:
            self._ranking[-1].append(number)
        else:
            self._ranking.append([number])
        self._joining = False
        if len(placed) + 1 == len(shown.texts):
            self._judge(self._ranking)
        else:
            self._say_ranking()

    def _join(self) -> None:
        self._joining = bool(self._ranking)
        self._say_ranking()

    def _start_over(self) -> None:
        self._ranking, self._joining = [], False
        self._say_ranking()

    def _say_ranking(self) -> None:
        text = " > ".join(" = ".join(map(str, group)) for group in self._ranking)
        self._say(f"Best first: {text}{' =' if self._joining else ''}")

    def _edited(self, change: dict) -> None:
        """The script marks the end of what it hands over: text, button and reason."""
        if self._filling or not change["new"].endswith(SAVE_MARK):
            return
        text, key, reason = read_order(change["new"])
        self._fill(text, self.reason.value if reason is None else reason)
        if not self.buttons[key].disabled:
            self.buttons[key].click()

    def _fill(self, text: str, reason: str = "") -> None:
        """Puts texts into the fields; whatever they end with, they give no order."""
        self._filling = True
        self.editor.value, self.reason.value = text, reason
        self._filling = False

    def _text(self) -> str:
        """The text of the editor; the shown one when only the line ends differ.

        Browsers turn the ends of all lines in an editor into one kind.
        """
        shown, edited = self._shown_text(), self.editor.value
        return shown if _lines(shown) == _lines(edited) else edited

    def _shown_text(self) -> str:
        shown = self.session.next()
        return shown.texts[0] if shown else ""

    def _save(self) -> None:
        text, reason = self._text(), self.reason.value
        empty = "" if text.strip() else "the text is empty. Skip it, or write one."
        self._step(lambda: self.session.judge(text, reason), empty)

    def _accept(self) -> None:
        reason = self.reason.value
        edited = self._text() != self._shown_text()
        lost = "you changed the text. Save it, or put the old one back."
        self._step(lambda: self.session.accept(reason), lost if edited else "")

    def _reject(self) -> None:
        reason = self.reason.value
        why = "say why: type a reason, press Enter, then R again."
        self._step(lambda: self.session.reject(reason), "" if reason.strip() else why)

    def _judge(self, choice: Choice) -> None:
        self._step(lambda: self.session.judge(choice))

    def _step(self, act: Callable[[], object], problem: str = "") -> None:
        if self.session.seconds_shown() < TOO_FAST_S:
            self._start_over()
            self._fill(self._shown_text())  # what was sent is of the item before
            self._say("Not counted: pressed before this item could be read.")
        elif problem:
            self._say(f"Not recorded: {problem}")
        else:
            self._record(act, "")

    def _undo(self) -> None:
        some = self.session.num_done > 0
        said = "Taken back." if some else "There is nothing to take back."
        self._record(self.session.undo, said)

    def _record(self, act: Callable[[], object], said: str) -> None:
        try:
            act()
        except OSError as error:  # a full disk; nothing else names an item to the rater
            self._say(f"Not recorded: {error}")
            return
        self._show()
        self._say(said)

    def _say(self, text: str) -> None:
        self.note.value = f"<p role='status'>{html.escape(text)}</p>"

    def _show(self) -> None:
        """Draws the item to judge, or the end."""
        self._ranking, self._joining = [], False
        shown = self.session.next()
        for key, button in self.buttons.items():
            button.disabled = key != "u" and (shown is None or _has_no_text(key, shown))
        if shown is None:
            self.head.value = "<b>This round is done.</b> Run the next cell."
            self.texts.value = ""
            self._fill("")
            return
        who = html.escape(f"round {self.session.round}, {self.session.rater}")
        self.head.value = f"<b>{shown.number} of {shown.total}</b> &nbsp; {who}"
        self.texts.value = _drawn(shown)
        self._fill(shown.texts[0])


def _has_no_text(key: str, shown: Shown) -> bool:
    """Whether the key would rank a fourth text of three."""
    return shown.task == "rank" and key.isdigit() and int(key) > len(shown.texts)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _drawn(shown: Shown) -> str:
    """The prompt above the texts side by side, as HTML; texts are never markup."""
    several = len(shown.texts) > 1
    names = "AB" if shown.task == "graded" else range(1, len(shown.texts) + 1)
    columns = "".join(
        f"<div class='finllm-text'>{f'<b>{name}</b><br>' if several else ''}"
        f"{html.escape(text)}</div>"
        for name, text in zip(names, shown.texts, strict=True)
    )
    asked = f"<div class='finllm-prompt'>{html.escape(shown.prompt)}</div>"
    return f"{asked if shown.prompt else ''}<div class='finllm-texts'>{columns}</div>"
