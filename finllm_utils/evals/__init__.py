"""What a model can do, and how sure that is: one folder a subject.

``evaluate`` asks every model everything; ``monitor`` and ``pretrain_watch`` ask while
it trains; ``bits_per_byte`` and ``choice`` are what all of them build on.
"""
