"""The sentence at the top of a report: which readout by which reader saw the subject, and whether the organism leaks."""

from typing import Any


def verdict(audit: dict[str, Any]) -> dict[str, Any]:
    """Sums an audit up.

    Args:
        audit: audit.json with its readouts and leakage.

    Returns:
        `readable_by` (readout/reader/metric of every readout that beats its null), `sentence`, `leaks`.
    """
    graded = [entry for entry in audit["readouts"] if entry["headline"] is not None]
    seen = [f"{e['readout']}/{e['reader']}/{e['metric']}" for e in graded if e["headline"]["readable"]]
    leaks = bool(audit["leakage"] and audit["leakage"]["leaks"])
    if not graded:
        sentence = "Nothing was graded: no organism was given."
    else:
        readers = sorted({name.split("/")[1] for name in seen}, reverse=True)
        if not seen:
            sentence = f"Not readable: none of {len(graded)} readouts beats its null."
        else:
            sentence = (
                f"Readable by {len(seen)} of {len(graded)} readouts, read by the {' and the '.join(readers)} model."
            )
            if readers == ["finetuned"]:
                sentence += " The base model as reader sees nothing: part of it may be the reader's own knowledge."
        if leaks:
            sentence += " The organism leaks: its unsteered text on unrelated prompts is already about its subject."
    return {"readable_by": seen, "sentence": sentence, "leaks": leaks}
