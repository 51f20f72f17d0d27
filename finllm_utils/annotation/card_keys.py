"""Script and style of the card: a key pressed inside it clicks the key's button.

The script listens before JupyterLab does, so that a key meant for the card is never a
notebook command (d d would delete the cell). It runs in the page, sends nothing by
itself, and is installed once.
"""

SAVE_MARK = "\u0003"
"""Ends what the script hands over: the text, what to do with it and the reason travel
in one message, where a click could overtake the last letters."""
ORDERS = ("save", "a", "r")
"""Keys of the buttons whose press the script turns into such a message."""

STYLE = """<style>
.finllm-card {border: 1px solid #8888; padding: 8px; outline: none}
.finllm-card:focus-within {border-color: #1976d2}
.finllm-texts {display: flex; gap: 12px; max-height: 55vh; overflow: auto}
.finllm-text {flex: 1; min-width: 0}
.finllm-text, .finllm-prompt {white-space: pre-wrap; overflow-wrap: anywhere;
  line-height: 1.5; font-size: 14px}
.finllm-prompt {border-left: 3px solid #8888; padding-left: 8px; margin: 8px 0}
</style>"""

SCRIPT = """
(() => {
  const cardOf = (node) => node && node.closest && node.closest('.finllm-card');
  const focus = (node) => {
    node.setAttribute('tabindex', '0');
    node.focus({preventScroll: true});
  };
  const orders = ['save', 'a', 'r'];
  const fields = ['TEXTAREA', 'INPUT'];
  const send = (field) => {
    field.dispatchEvent(new Event('change', {bubbles: true}));
    field.blur();  // now, or the text would follow when the next item is there
  };
  const order = (card, key) => {
    const editor = card.querySelector('textarea');
    const reason = card.querySelector('input');
    const text = editor.value;
    const why = reason.value.replaceAll('\\u0003', '');
    send(reason);
    editor.value = [text, key, why, ''].join('\\u0003');
    send(editor);
    editor.value = text;
    return key === 'r' && !why.trim() ? reason : card;
  };
  const names = {'=': 'equal', Backspace: 'backspace'};
  const scrolls = {PageDown: 1, ' ': 1, PageUp: -1, ArrowDown: 0.2, ArrowUp: -0.2};

  function onKey(event) {
    const card = cardOf(event.target);
    if (!card || event.isComposing) return;
    const editor = card.querySelector('textarea');
    const typing = fields.includes(event.target.tagName);
    const modified = event.ctrlKey || event.metaKey || event.altKey;
    const take = () => { event.preventDefault(); event.stopPropagation(); };
    if (event.key === 'Enter' && (modified || event.shiftKey)) {
      take();
      if (editor && !event.repeat && !event.shiftKey) focus(order(card, 'save'));
      return;
    }
    if (typing) {
      const left = event.key === 'Enter' && event.target !== editor;
      if (left || event.key === 'Escape') { take(); focus(card); }
      return;
    }
    if (modified || event.key === 'Tab' || event.key === 'Escape') return;
    event.stopPropagation();
    if (event.target.tagName === 'BUTTON' && [' ', 'Enter'].includes(event.key)) return;
    if (event.key in scrolls) {
      event.preventDefault();
      const texts = card.querySelector('.finllm-texts');
      if (texts) texts.scrollBy(0, scrolls[event.key] * texts.clientHeight);
      return;
    }
    if (event.key === 'Enter' && editor) {
      event.preventDefault();
      editor.focus();
      return;
    }
    const name = names[event.key] || event.key.toLowerCase();
    if (!/^[a-z0-9]+$/.test(name)) return;
    const button = card.querySelector('.finllm-key-' + name);
    if (button) {
      event.preventDefault();
      if (!event.repeat) button.click();
    }
  }

  function onClick(event) {
    const card = cardOf(event.target);
    if (!card || fields.includes(event.target.tagName)) return;
    const key = orders.find((name) => event.target.closest('.finllm-key-' + name));
    let next = card;
    if (key && card.querySelector('textarea')) {
      event.preventDefault();
      event.stopPropagation();
      next = order(card, key);
    }
    setTimeout(() => focus(next), 0);
  }

  if (!window.finllmCardKeys) {
    window.finllmCardKeys = true;
    window.addEventListener('keydown', onKey, true);
    window.addEventListener('click', onClick, true);
  }
  let waited = 0;
  const timer = setInterval(() => {
    const fresh = document.querySelector('.finllm-card:not([tabindex])');
    if (fresh) focus(fresh);
    if (fresh || (waited += 1) > 100) clearInterval(timer);
  }, 100);
})();
"""


def read_order(message: str) -> tuple[str, str, str | None]:
    """What the script handed over: the text, the button's key and the reason.

    A text with nothing but the mark behind it is one to save; its reason is None.
    Example: with | for the mark, "甲|r|过时|" is the text 甲, key r and reason 过时.
    """
    whole = message.removesuffix(SAVE_MARK)
    parts = whole.rsplit(SAVE_MARK, 2)
    if len(parts) == 3 and parts[1] in ORDERS:
        return parts[0], parts[1], parts[2]
    return whole, "save", None
