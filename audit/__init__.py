"""The lens, its readouts, the nulls and the reports."""
