"""The report card: the scoreboard behind it, what is read off it, and the page."""
