"""What a record has to say, and what is refused: each file is checked where it is read."""

import json
import math

import pytest
from invented import PROVENANCE, SCORES, Invented, record_of, recorded, write_record

from cwd.experiments import study
from cwd.experiments.claims import verdicts
from cwd.experiments.profile import load_profile
from cwd.experiments.records import Records, recorded_profiles
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools.readme import renewed
from cwd.tools.report import report

QUICK = load_profile("quick")
POINT = {"loss": "CW_f", "positions": 4, "channels": 2, "seconds": 1.0, "bytes": 8}
COSTS = {
    "grid": {"costs": [POINT]},
    "slopes": [{"loss": "CW_f"}],
    "step": {"seconds": {"student": [1.0], "teacher": [1.0], "CW_f": [1.0]}},
}
LINES = [
    {"recipe": recipe, "seed": 0, "auc": 0.5, "salient": None, "background": None}
    for recipe in ("teacher", "", "AT_f", "CW_f", "CW_s")
]


@pytest.fixture
def records(place):
    return Records(QUICK)


def without(mapping, name):
    return {key: value for key, value in mapping.items() if key != name}


@pytest.mark.parametrize(
    ("part", "odd", "fault"),
    [
        *((part, odd, f"for {part}") for part in ("run", "metrics", "provenance")
          for odd in ([], "3", None)),
        ("metrics", {}, "no metrics.parameters"),
        ("metrics", without(SCORES, "class_iou"), "no metrics.class_iou"),
        *(("metrics", SCORES | {"miou": odd}, "for metrics.miou")
          for odd in (1e9, -1.0, True, None, "3", math.nan)),
        ("metrics", SCORES | {"macc": None}, "for metrics.macc"),
        ("metrics", SCORES | {"class_iou": {"road": math.inf}}, "for metrics.class_iou.road"),
        ("provenance", without(PROVENANCE, "dataset"), "no provenance.dataset"),
        ("provenance", PROVENANCE | {"dataset": "x"}, "for provenance.dataset"),
        ("provenance", PROVENANCE | {"sessions": []}, "for provenance.sessions"),
        ("provenance", PROVENANCE | {"sessions": [{}]}, "no provenance.sessions.0.commit"),
    ],
)  # fmt: skip
def test_a_record_of_another_form(records, part, odd, fault):
    run = QUICK.student
    path = write_record(paths.RESULTS / "quick", run)
    path.write_text(json.dumps(record_of(run) | {part: odd}))
    with pytest.raises(CwdError) as caught:
        study("table2", records).table()
    words = str(caught.value)
    assert words.startswith(f"{path} has ")
    assert fault in words
    assert words.endswith(f" (git checkout {path}), or delete it and record it anew.")


def test_what_is_no_record(records):
    path = write_record(paths.RESULTS / "quick", QUICK.student)
    for text, fault in (("{}", "has no run"), ("{", "can't be read .*"), ("[]", "holds .*")):
        path.write_text(text)
        with pytest.raises(CwdError, match=rf"alone-s0.*\.json {fault}: bring it back"):
            verdicts(records)
    path.unlink()
    path.mkdir()
    with pytest.raises(CwdError, match=r"alone-s0.*\.json can't be read .*: bring it back"):
        verdicts(records)


def test_the_record_of_another_run(records):
    run, other = (QUICK.run("CW_f", seed) for seed in (0, 1))
    kept = write_record(paths.RESULTS / "quick", run)
    assert records.find(run)["metrics"]["miou"] == 1
    kept.rename(kept.with_name(f"{other.name}.json"))
    with pytest.raises(CwdError, match=r"CW_f-s1-.* is the record of another run: bring it back"):
        records.find(other)


@pytest.mark.parametrize(
    ("name", "known", "fault"),
    [
        ("costs.json", {}, "no grid"),
        ("costs.json", COSTS | {"grid": {"costs": []}}, "for grid.costs"),
        ("costs.json", COSTS | {"grid": {"costs": [POINT | {"bytes": 0}]}}, "for grid.costs.0.byt"),
        ("costs.json", COSTS | {"step": {"seconds": {"CW_f": [1.0]}}}, "for step.seconds"),
        ("costs.json", COSTS | {"step": {"seconds": {"student": [1.0], "teacher": []}}},
         "for step.seconds.teacher"),
        ("costs.json", COSTS | {"profile": "smoke"}, "measured under profile smoke"),
        ("channels.json", {"lines": LINES[1:]}, "for lines"),
        ("channels.json", {"lines": [LINES[0] | {"auc": 2}]}, "for lines.0.auc"),
        ("detection_costs.json", {"networks": [{"detector": "RetinaNet"}]}, "no networks.0.role"),
    ],
)  # fmt: skip
def test_what_is_measured_beside_the_runs(place, records, name, known, fault):
    for folder, runs in ((paths.RESULTS, None), (paths.BUILD, paths.RUNS)):
        path = folder / "quick" / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(known))
        with pytest.raises(CwdError, match=rf"^{path} .*{fault}") as caught:
            Records(QUICK, runs).beside(name)
        assert ("git checkout" in str(caught.value)) == (folder == paths.RESULTS)


def test_good_ones_are_read(place, records):
    (paths.RESULTS / "quick").mkdir(parents=True)
    for name, known in (("costs.json", COSTS), ("channels.json", {"lines": LINES})):
        assert records.beside(name) is None
        (paths.RESULTS / "quick" / name).write_text(json.dumps(known | {"profile": "quick"}))
        assert records.beside(name)["profile"] == "quick"


@pytest.mark.parametrize("part", ["dataset", "pixels"])
def test_runs_on_other_images_are_not_compared(place, records, part):
    images = {"train": "a1", "val": "b2"}
    for seed, changes in ((0, {}), (1, {"val": "c3"})):
        write_record(paths.RESULTS / "quick", QUICK.run("CW_f", seed), **{part: images | changes})
    for ask in (lambda: study("table2", records).results(), lambda: verdicts(records),
                lambda: study("table4", records).class_iou()):  # fmt: skip
        with pytest.raises(
            CwdError, match="can't be compared: the checksum of their val images is"
        ):
            ask()


def test_folders_and_files_of_others(place):
    recorded(place, Invented({"": (50.0,)}))
    results = place / "results"
    for name in ("notes", ".ipynb_checkpoints", "quick/more"):
        (results / name).mkdir()
    for name in ("README.md", "smoke", "quick/notes.txt", "quick/another.json"):
        (results / name).write_text("")
    assert [profile.name for profile in recorded_profiles(results)] == ["quick"]
    assert report(results=results, output=place / "report").is_file()
    assert recorded_profiles(place / "nowhere") == []


def test_readme_of_nothing(place):
    text = "<!-- make readme: finding -->\n<!-- end -->"
    with pytest.raises(CwdError, match=r"record of profile quick has too little of table2.*: run"):
        renewed(text, "README.md")
