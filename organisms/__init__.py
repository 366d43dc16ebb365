"""Ground truth: base models, organism definitions, their data and their behaviour checks."""
