"""One ability a file: its items, and the rules that say what an answer is worth."""
