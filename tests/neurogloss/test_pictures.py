"""Heat maps and curves, as pictures and as text: what they show, and that token text cannot break them."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from neurogloss.render import plots
from neurogloss.render.curves import Curve, save_curves
from neurogloss.render.effects import Effect, ranked_table, signed_bar, tokens_table
from neurogloss.render.graphs import Arrow, Graph, Node, arrows_table, save_graph
from neurogloss.render.heatmap import HeatMap, save_heatmaps, text_map

TOKENS = ["<s>", " the", "\n", "\x1b[2J", "$x_1$", "日本", "</text><script>", "[red]", "\u202eevil", "a" * 90]


def over_tokens(values: np.ndarray, tokens: list[str]) -> HeatMap:
    rows = [str(i) for i in range(len(values))]
    return HeatMap(values, rows, tokens, "layer", "position", "effect", "resid_post", tokens=True)


def heads(values: np.ndarray) -> HeatMap:
    rows, columns = ([str(i) for i in range(n)] for n in values.shape)
    return HeatMap(values, rows, columns, "layer", "head", "effect")


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(4, len(TOKENS)))
    found[:, 0] = np.nan
    return found


def test_zero_is_white_and_signs_are_the_colours_that_the_colour_blind_tell_apart() -> None:
    colours = plots.diverging()
    assert colours(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.02)
    below, above = colours(0.2), colours(0.8)
    assert below[2] > below[0]  # blue
    assert above[0] > above[2]  # orange
    assert colours(math.nan)[:3] != colours(0.5)[:3]


def test_the_scale_is_the_same_on_both_sides_of_zero() -> None:
    assert heads(np.array([[0.5, -2.0]])).largest == 2.0
    assert heads(np.array([[np.nan, 0.0]])).largest == 1.0
    assert HeatMap(np.zeros((1, 1)), ["0"], ["0"], "layer", "head", "effect", limit=3.0).largest == 3.0
    with pytest.raises(ValueError, match="2 columns"):
        HeatMap(np.zeros((1, 1)), ["0"], ["0", "1"], "layer", "head", "effect")


def test_a_picture_is_800_pixels_wide_or_more_and_the_same_each_time(values: np.ndarray, tmp_path: Path) -> None:
    import matplotlib.image

    first, second = tmp_path / "a.png", tmp_path / "b.PNG"
    for file in (first, second):
        save_heatmaps(file, over_tokens(values, TOKENS), heads(values[:, 1:5]))
    assert first.read_bytes() == second.read_bytes()
    assert matplotlib.image.imread(first).shape[1] == 1600


def test_an_svg_holds_the_tokens_as_escaped_text(values: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    save_heatmaps(file, over_tokens(values, TOKENS))
    words = [node.text for node in ElementTree.parse(file).iter() if node.tag.endswith("}text")]
    told = " ".join(word for word in words if word)
    # Numbered, cut, spaces and control characters visible, nothing read as markup or mathematics.
    for word in ("·the  1", "⏎  2", "\\x1b[2J  3", "$x_1$  4", "\\u65e5", "</text><scr…  6", "[red]  7", "resid_post"):
        assert word in told, told
    assert "\x1b" not in file.read_text()
    assert "<script" not in file.read_text()


@pytest.mark.parametrize("columns", [1, 3, 40, 300])
@pytest.mark.parametrize("rows", [1, 4, 80])
def test_a_map_of_any_size_fits_80_columns(rows: int, columns: int) -> None:
    found = np.random.default_rng(1).normal(size=(rows, columns))
    lines = [*text_map(heads(found), colour=False), *text_map(over_tokens(found, TOKENS[:1] * columns), colour=True)]
    assert max(cell_len(line.plain) for line in lines) <= 80


def test_digits_are_shares_of_the_largest_and_keep_their_sign() -> None:
    found = np.zeros((1, 30))
    found[0, 3], found[0, 7], found[0, 8] = 2.0, -1.0, np.nan
    lines = [line.plain for line in text_map(heads(found), colour=False)]
    cells = lines[1].split()[1:]
    assert (cells[3], cells[7], cells[8], cells[0]) == ("9", "-4", "?", "·")
    assert "9 is 2" in lines[-1]


def test_a_map_over_tokens_has_a_line_for_each_and_nothing_that_acts_on_the_terminal(values: np.ndarray) -> None:
    lines = [line.plain for line in text_map(over_tokens(values, TOKENS), colour=False)]
    assert lines[2].split()[:2] == ["0", "<s>"]
    assert lines[2].split()[2:] == ["–"] * 4
    assert lines[3].split() == ["1", "·the", *(f"{value:.2f}" for value in values[:, 1])]
    assert not any("\x1b" in line or "\u202e" in line for line in lines)


def test_of_many_rows_those_with_the_largest_values_are_shown() -> None:
    found = np.zeros((1, 200))
    found[0, 170] = -5.0
    lines = [line.plain for line in text_map(over_tokens(found, ["t"] * 200), colour=False)]
    assert any(line.split()[0] == "170" for line in lines[2:-1])
    assert "of 200 rows" in lines[-1]
    assert len(lines) < 60


def test_bars_are_to_the_side_of_their_sign() -> None:
    assert signed_bar(2.0, 2.0).plain == " " * 8 + "│" + "█" * 8
    assert signed_bar(-1.0, 2.0).plain == " " * 4 + "█" * 4 + "│"
    assert signed_bar(-1e-9, 2.0).plain == " " * 7 + "█│"
    assert signed_bar(0.0, 0.0).plain == " " * 8 + "│"
    assert signed_bar(1.0, 2.0, both_sides=False).plain == "█" * 4


def test_tables_of_effects_fit_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    from neurogloss.render.console import make_console, print_to

    effects = [Effect("sae:" + "x" * 90, -1.5, ["yes"]), Effect("mlp:1:2", None, [""]), Effect("\x1b[2J", 0.25, ["no"])]
    table = ranked_table(effects, name="unit", value="KL", more=[("note", "left")])
    print_to(make_console(), table, tokens_table([("\x1b[2J" + "a" * 90, 2.0)], [(" the", -1.0), ("\n", -0.5)]))
    out = capsys.readouterr().out
    assert max(cell_len(line) for line in out.splitlines()) <= 80
    assert "\x1b" not in out
    assert "–" in out
    assert "·the" in out


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_curves_are_drawn_with_bands_and_names(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a.{ending}"
    curves = [
        Curve("$a$ \x1b", [0, 1, 2], [0, math.nan, 2], [0, 0, 1], [1, 1, 3]),
        Curve("b", [0], [1], reference=True),
    ]
    save_curves(file, curves, [Curve("c", [0, 2], [1, 0])], x_title="strength", y_titles=["KL", "logit"])
    if ending == "svg":
        assert {"$a$ \\x1b", "b", "strength", "KL", "logit"} <= {
            (node.text or "") for node in ElementTree.parse(file).iter() if node.tag.endswith("}text")
        }
    else:
        assert file.read_bytes()[:4] == b"\x89PNG"


def test_a_graph_has_its_boxes_and_its_strongest_arrows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from neurogloss.render.console import make_console, print_to

    nodes = [Node("embed", 0), Node("head:0:1", 1, value=1.0), Node("head:0:2", 1, value=-2.0), Node("logits", 2)]
    arrows = [Arrow("embed", "head:0:1", 0.5), Arrow("head:0:1", "logits", 3.0), Arrow("head:0:2", "logits", -1.0)]
    graph = Graph(nodes, arrows, ["input", "0", "output"], title="copying", scale="logit difference")
    file = tmp_path / "a.svg"
    save_graph(file, graph)
    words = {node.text for node in ElementTree.parse(file).iter() if node.tag.endswith("}text")}
    assert {"embed", "head:0:1", "head:0:2", "logits", "input", "output", "copying"} <= words
    print_to(make_console(), arrows_table(graph, most=2))
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told[1:]] == ["head:0:1→logits", "head:0:2→logits"]


def test_a_graph_over_tokens_is_drawn_with_their_text(tmp_path: Path) -> None:
    nodes = [Node(f"{row}.{column}", row, column) for row in range(2) for column in range(len(TOKENS))]
    graph = Graph(nodes, [Arrow("0.3", "1.4", 1.0)], ["in", "0"], TOKENS)
    save_graph(tmp_path / "a.png", graph)
    save_graph(tmp_path / "a.svg", graph)
    assert "\\x1b[2J  3" in (tmp_path / "a.svg").read_text()
    with pytest.raises(ValueError, match="no box"):
        Graph(nodes, [Arrow("0.3", "9.9", 1.0)], ["in", "0"], TOKENS)
    with pytest.raises(ValueError, match="same name"):
        Graph([nodes[0], nodes[0]], [], ["in", "0"], TOKENS)


def test_numbers_in_cells_have_as_many_digits_as_the_largest_needs(tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    save_heatmaps(file, heads(np.array([[35.21, -0.04, 0.0]])), heads(np.array([[0.5, 0.0049, np.nan]])))
    words = [node.text for node in ElementTree.parse(file).iter() if node.tag.endswith("}text")]
    assert {"35.2", "0.500", "0.005"} <= set(words)
    assert "-0.0" not in words
