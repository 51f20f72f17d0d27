"""Script and style of the card: a key pressed inside it clicks the key's button.

The script listens before JupyterLab does, so that a key meant for the card is never a
notebook command (d d would delete the cell). It runs in the page, sends nothing by
itself, and is installed once.
"""

SAVE_MARK = "\u0003"
"""Ends a text that the script hands over: the text and the wish to save it travel in
one message, where a click could overtake the last letters."""

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
  const focus = (card) => {
    card.setAttribute('tabindex', '0');
    card.focus({preventScroll: true});
  };
  const save = (editor) => {
    editor.value += '\\u0003';
    editor.dispatchEvent(new Event('change', {bubbles: true}));
  };
  const names = {'=': 'equal', Backspace: 'backspace'};
  const scrolls = {PageDown: 1, ' ': 1, PageUp: -1, ArrowDown: 0.2, ArrowUp: -0.2};

  function onKey(event) {
    const card = cardOf(event.target);
    if (!card || event.isComposing) return;
    const editor = card.querySelector('textarea');
    const typing = event.target === editor;
    const modified = event.ctrlKey || event.metaKey || event.altKey;
    const take = () => { event.preventDefault(); event.stopPropagation(); };
    if (event.key === 'Enter' && (modified || event.shiftKey)) {
      take();
      if (editor && !event.repeat && !event.shiftKey) { save(editor); focus(card); }
      return;
    }
    if (typing) {
      if (event.key === 'Escape') { take(); focus(card); }
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
    if (!card || event.target.tagName === 'TEXTAREA') return;
    const saves = event.target.closest('.finllm-key-save');
    if (saves) {
      event.preventDefault();
      event.stopPropagation();
      save(card.querySelector('textarea'));
    }
    setTimeout(() => focus(card), 0);
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
