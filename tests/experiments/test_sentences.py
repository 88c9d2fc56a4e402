"""Sentences about results say what small tables hold, counted by hand."""

import pandas as pd

from cwd.experiments.loss_costs import beside_cw
from cwd.experiments.rows_networks import agreement
from cwd.experiments.why import widest, winners
from cwd.figures.style import LOOKS, look_of


def test_who_gains_most():
    rows = pd.MultiIndex.from_product(
        [["one", "two", "three"], ["student", "CW", "PI"]], names=["network", "method"]
    )
    gains = [None, 1.0, 2.0, None, -1.0, -2.0, None, None, 0.5]  # CW wasn't measured on three
    table = pd.DataFrame({"our gain": gains}, rows)
    assert winners(table) == "Largest gain: PI in 2, CW in 1 of 3."
    assert winners(table * float("nan")) == "No gain was measured."


def test_what_differs_most_from_seed_to_seed():
    by_seed = pd.DataFrame({0: [57.0, 40.0, 43.0], 1: [None, 44.5, 42.0]}, ["teacher", "AT", "CW"])
    assert widest(by_seed) == "AT differs most from seed to seed, 40.00 to 44.50."


def test_what_costs_less_than_cw():
    lines = [("CW_f", 1, 5.0), ("PI", 1, 4.0), ("HO", 1, 9.0), ("PA", 1, 5.0)]
    lines += [("CW_f", 2, 6.0), ("PI", 2, 5.0), ("HO", 2, 5.5), ("PA", 2, 6.0)]
    costs = pd.DataFrame(lines, columns=["loss", "positions", "bytes"]).assign(channels=1)
    assert beside_cw(costs, "bytes") == "Less memory than CW_f at every size: PI."


def test_which_costs_agree():
    costs = pd.DataFrame([[1.0, 1.004, 3.0, 3.0], [1.0, 1.1, 3.0, 3.01]])
    assert agreement(costs) == "3 of 4 numbers are the paper's within half a percent."


def test_a_method_looks_the_same_under_every_name():
    for name in ("CW_f", "CWD", "CW_f(T=0.1)", "PI + HO + CW_s + CW_f", "student, CW_fpn"):
        assert look_of(name) == LOOKS["CW"]
    assert look_of("student PSPNet-R18(0.25)") == LOOKS["student"]
    assert look_of("PI(norm=released) + HO + PA_f") == LOOKS["PA"]
    assert look_of("Heo et al.") not in LOOKS.values()
    assert len(set(LOOKS.values())) == len(LOOKS)
