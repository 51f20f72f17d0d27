"""One card for every judgement of a person or a model: records, rounds, agreement."""
