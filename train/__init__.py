"""`sft.py` and what happens around a checkpoint."""
