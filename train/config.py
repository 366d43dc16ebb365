"""Settings of what happens around a checkpoint. Imports nothing heavy."""

from dataclasses import dataclass, field


@dataclass
class CheckpointsConfig:
    """When checkpoints are written. The last step always is; the three lists are joined.

    Attributes:
        steps: Optimizer steps.
        log_spaced: How many log-spaced steps between 1 and the last.
        exposure: Fractions (0, 1] of the organism's loss tokens; each becomes the first step that has seen that share,
            so that runs at different mix ratios have checkpoints at equal exposure.
    """

    steps: list[int] = field(default_factory=list)
    log_spaced: int = 0
    exposure: list[float] = field(default_factory=lambda: [0.25, 0.5, 1.0])
