"""The papers' claims, which `claims.yaml` lists, each with the comparison that would show it."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from cwd.experiments.claims import comparisons, networks
from cwd.experiments.claims.comparisons import Comparison


@dataclass(frozen=True)
class Claim:
    """A claim in our words, where its paper makes it, and what would show it."""

    text: str
    where: str
    test: Comparison


def _read() -> tuple[Claim, ...]:
    kinds = vars(comparisons) | vars(networks)
    claims = []
    for line in yaml.safe_load(Path(__file__).with_name("claims.yaml").read_text()):
        text, where = line.pop("claim"), line.pop("where")
        ((kind, given),) = line.items()
        claims.append(Claim(text, where, kinds[kind](**given)))
    return tuple(claims)


CLAIMS = _read()
