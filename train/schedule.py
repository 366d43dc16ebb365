"""Which optimizer steps get a checkpoint."""

from collections.abc import Callable

from train.config import CheckpointsConfig
from train.errors import TrainError


def checkpoint_steps(asked: CheckpointsConfig, steps: int, first_step_with: Callable[[float], int]) -> list[int]:
    """Steps that get a checkpoint, ascending; the last step always does.

    Args:
        asked: The recipe's `checkpoints`.
        steps: Optimizer steps of the run.
        first_step_with: First step that has seen a fraction of the organism's loss tokens.

    Raises:
        TrainError: A listed step lies beyond the end.
    """
    late = [step for step in asked.steps if step > steps]
    if late:
        raise TrainError(f"checkpoints.steps={late}: the run has {steps} steps. Leave out what lies beyond")
    found = {steps, *asked.steps} | {first_step_with(fraction) for fraction in asked.exposure}
    if asked.log_spaced:
        found |= {round(steps ** (i / asked.log_spaced)) for i in range(1, asked.log_spaced + 1)}
    return sorted(found)
