"""Our suites as tasks of lm-eval, and the verdicts that it calls."""
