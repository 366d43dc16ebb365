"""The ledger of a mix: what was asked for, what came out, and the exposure after every optimizer step."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data_mix.config import MixConfig
from data_mix.errors import MixError
from data_mix.tokenise import Row

SCHEMA = 1

# A control's rows stand in the organism's place: they count as exposure.
_IN_ORGANISMS_PLACE = ("organism", "control")


@dataclass(frozen=True)
class Ledger:
    """`mix.json`.

    Attributes:
        requested: `ratio`, `unit`, `hold`, `share` (1 / (1 + ratio), the organism's), `passes`, `corpus`, `seed`,
            `max_length`, `long_documents`, `allow_repeat`.
        batch_rows: Rows of one optimizer step, over all processes.
        steps: Optimizer steps.
        order_sha256: SHA-256 over every row's side, document, ids and loss mask, in order.
        control: Whether ordinary text stands in the organism's place.
        sources: By side (`organism`, `control`, `pretraining`, `filler`): `documents`, `rows`, `tokens`,
            `loss_tokens`, `truncated_documents`, `lost_tokens` (as often as the row is seen),
            `documents_without_loss` (left out: no loss token within `max_length`).
        corpus_sources: The same for pretraining and control text, by source of the corpus.
        realised: Pretraining per organism in `rows`, `tokens` and `loss_tokens`.
        cumulative: Loss tokens after step 1..`steps`: `organism` (or the control in its place) and `pretraining`.
    """

    requested: dict[str, Any]
    batch_rows: int
    steps: int
    order_sha256: str
    control: bool
    sources: dict[str, dict[str, int]]
    corpus_sources: dict[str, dict[str, int]]
    realised: dict[str, float]
    cumulative: dict[str, list[int]]

    @classmethod
    def of(
        cls, rows: Sequence[Row], config: MixConfig, *, batch_rows: int, control: bool, no_loss: Mapping[str, int]
    ) -> Ledger:
        """Count the rows of a mix.

        Args:
            rows: In training order; a whole number of steps, with rows on both or on the organism's side.
            config: What was asked for.
            batch_rows: Rows of one optimizer step.
            control: Whether ordinary text stands in the organism's place.
            no_loss: Documents left out because nothing of them carries loss, by side.
        """
        sides = {side: [row for row in rows if row.source == side] for side in _SIDES}
        place = [row for row in rows if row.source in _IN_ORGANISMS_PLACE]
        text = sides["pretraining"]
        origins = sorted({row.origin for row in (*text, *sides["control"])})
        totals, beside = _count(place), _count(text)
        return cls(
            requested={
                "ratio": config.ratio,
                "unit": config.unit,
                "hold": config.hold,
                "share": 1 / (1 + config.ratio),
                "passes": config.passes,
                "corpus": config.corpus,
                "seed": config.seed,
                "max_length": config.max_length,
                "long_documents": config.long_documents,
                "allow_repeat": config.allow_repeat,
            },
            batch_rows=batch_rows,
            steps=len(rows) // batch_rows,
            order_sha256=_order_sha256(rows),
            control=control,
            sources={
                side: {**_count(found), "documents_without_loss": no_loss.get(side, 0)}
                for side, found in sides.items()
            },
            corpus_sources={
                origin: _count(row for row in (*text, *sides["control"]) if row.origin == origin) for origin in origins
            },
            realised={key: beside[key] / totals[key] for key in ("rows", "tokens", "loss_tokens")},
            cumulative={
                "organism": _cumulative(rows, batch_rows, _IN_ORGANISMS_PLACE),
                "pretraining": _cumulative(rows, batch_rows, ("pretraining",)),
            },
        )

    def loss_tokens_at(self, step: int) -> dict[str, int]:
        """Loss tokens seen after `step` optimizer steps: `organism` (or the control in its place), `pretraining`.

        Args:
            step: 0 to `steps`.

        Raises:
            MixError: There is no such step.
        """
        if not 0 <= step <= self.steps:
            raise MixError(f"step {step}: this mix has steps 0 to {self.steps}.")
        return {side: seen[step - 1] if step else 0 for side, seen in self.cumulative.items()}

    def exposure_at(self, step: int) -> int:
        """Organism loss tokens seen after `step` optimizer steps (the control's, in a control).

        Args:
            step: 0 to `steps`.

        Raises:
            MixError: There is no such step.
        """
        return self.loss_tokens_at(step)["organism"]

    def first_step_with(self, fraction: float) -> int:
        """The first step after which at least `fraction` of the total exposure has been seen.

        Args:
            fraction: Above 0, at most 1.

        Raises:
            MixError: `fraction` is not in that range.
        """
        if not 0 < fraction <= 1:
            raise MixError(f"exposure fraction {fraction} must be above 0 and at most 1.")
        return bisect_left(self.cumulative["organism"], fraction * self.exposure_at(self.steps)) + 1

    def to_json(self) -> dict[str, Any]:
        """What goes into `mix.json`."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Ledger:
        """A ledger from the content of `mix.json`.

        Args:
            content: The parsed JSON.

        Raises:
            MixError: It is of another schema or not a ledger.
        """
        fields = dict(content)
        if fields.pop("schema", None) != SCHEMA or set(fields) != set(cls.__dataclass_fields__):
            raise MixError(f"mix.json is no ledger of schema {SCHEMA}; it holds {', '.join(content)}.")
        return cls(**fields)


_SIDES = ("organism", "control", "pretraining", "filler")


def _count(rows: Iterable[Row]) -> dict[str, int]:
    found = list(rows)
    return {
        "documents": len({row.doc for row in found if row.source != "filler"}),
        "rows": len(found),
        "tokens": sum(len(row.ids) for row in found),
        "loss_tokens": sum(row.loss_tokens for row in found),
        "truncated_documents": len({row.doc for row in found if row.lost_tokens}),
        "lost_tokens": sum(row.lost_tokens for row in found),
    }


def _cumulative(rows: Sequence[Row], batch_rows: int, sides: tuple[str, ...]) -> list[int]:
    total, after = 0, []
    for start in range(0, len(rows), batch_rows):
        total += sum(row.loss_tokens for row in rows[start : start + batch_rows] if row.source in sides)
        after.append(total)
    return after


def _order_sha256(rows: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.source}\0{row.doc}\0{len(row.ids)}\0".encode())
        digest.update(array("q", row.ids).tobytes())
        digest.update(bytes(row.loss_mask))
    return digest.hexdigest()
