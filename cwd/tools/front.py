"""What the front page of a book says: what was asked, what came out, and how sure that is."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from cwd.experiments.claims.judging import VERDICTS, signed
from cwd.experiments.profile import Profile, load_profile
from cwd.experiments.records import Records
from cwd.experiments.study import study
from cwd.system.errors import CwdError
from cwd.tools.book import template
from cwd.tools.first import MAIN_TABLE
from cwd.tools.readme import Gains, finding


def front(sources: Iterable[Records], claims: Mapping[Profile, pd.DataFrame], **more: Any) -> str:
    """The front page in Markdown: `front.md` with the numbers of some sources and their `verdicts`.

    `more` says how many `runs` a `profile` has, and how many of them are from `here` or `recorded`.
    """
    paper = study(MAIN_TABLE, Records(load_profile("quick"))).paper_gains()
    rivals = {label: gain for label, gain in paper.items() if gain and "CW" not in label}
    counts = [
        (
            _images(profile),
            table["verdict"].value_counts().reindex(VERDICTS, fill_value=0),
            table.iloc[0],
        )
        for profile, table in claims.items()
    ]
    said = {"paper": paper, "rival": max(rivals, key=rivals.get), "verdicts": counts}
    page = template("front.md", signed=signed)
    return page.render(findings=[_found(s) for s in sources if s.profile.student], **said, **more)


def _found(source: Records) -> str:
    images = _images(source.profile)
    try:
        gains = Gains(study(MAIN_TABLE, source))
        gains.largest(["CW_f"]), gains.largest(["CW_s"])
        return finding({images: gains})
    except CwdError as error:  # too little was measured, or a record is damaged
        return f"On {images}, that isn't known yet: {error}"


def _images(profile: Profile) -> str:
    return profile.data.name if profile.data else profile.name
