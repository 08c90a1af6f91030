"""``neurogloss heads``: where heads attend, and what their weights make of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from neurogloss.cli.model import ModelCall, Plot, Texts, TextsFile, model_verb, only, picture, texts_of
from neurogloss.errors import UsageError

if TYPE_CHECKING:
    from agent.toolbox.heads import HeadPatternsArguments
    from neurogloss.render.heatmap import HeatMap
    from tools.head_circuits import HeadCopying
    from tools.heads import EdgeProfile
    from tools.subject import Subject
    from tools.types import UnitId

Streams = Literal["alone", "embedding"]
EdgeKind = Literal["all", "previous", "same", "first", "duplicate", "induction", "delimiter"]
_CAUSE = "Changing what they attend to"


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "heads")(heads)


def heads(
    call: ModelCall,
    *,
    unit: Annotated[
        str | None,
        typer.Argument(metavar="UNIT", help="One head, such as head:3:1, or a pattern such as 'head:3:*'. (all)"),
    ] = None,
    text: Texts = None,
    texts: TextsFile = None,
    streams: Annotated[
        Streams,
        typer.Option("--streams", help="What stands for a token in circuits: its stream at the layer, or its "
                     "embedding."),
    ] = "alone",
    offset: Annotated[
        int, typer.Option("--offset", min=0, metavar="N", help="Of one head with rotary embeddings: QK for a key so "
                          "many tokens back.")
    ] = 0,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Token pairs and edges to list.")] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random tokens, where no text is given.")] = 0,
    knock_out: Annotated[
        bool, typer.Option("--knock-out", rich_help_panel=_CAUSE, help="Take the heads' attention away, together.")
    ] = False,
    edges: Annotated[
        EdgeKind, typer.Option("--edges", rich_help_panel=_CAUSE, help="Only these of their edges.")
    ] = "all",
    scale: Annotated[
        list[float] | None,
        typer.Option("--scale", metavar="FACTOR", rich_help_panel=_CAUSE, help="Multiply their attention instead; "
                     "with --attend may be repeated."),
    ] = None,
    renormalise: Annotated[
        bool, typer.Option("--renormalise", rich_help_panel=_CAUSE, help="The query's other edges take what is left.")
    ] = False,
    attend: Annotated[
        str | None,
        typer.Option("--attend", metavar="TOKEN", rich_help_panel=_CAUSE, help="Scale attention from a text's last "
                     "token to this one, and see which of two answers wins."),
    ] = None,
    answer: Annotated[
        str | None, typer.Option("--answer", metavar="TOKEN", rich_help_panel=_CAUSE, help="What may come next.")
    ] = None,
    wrong: Annotated[
        str | None, typer.Option("--wrong", metavar="TOKEN", rich_help_panel=_CAUSE, help="What it is compared with.")
    ] = None,
    plot: Plot = None,
) -> None:  # fmt: skip
    """See what attention heads do: where they attend, and what their weights copy.

    Patterns are scored over the texts given; without any, over random tokens said twice, on which heads that look for
    repetition show. Circuits are read off the weights: which token attends to which, and what that makes more likely.
    Copying is 1 where a head raises what it attends to, and -1 where it lowers it.

    [bold]Examples[/bold]

      neurogloss heads
      neurogloss heads head:3:3
      neurogloss heads head:3:3 --text "self.a = a; self.b =" --plot pattern.png
      neurogloss heads 'head:0:*' --text "for i in range(3): print(i)"
      neurogloss heads --plot heads.png
      neurogloss heads head:3:3 --knock-out --edges induction
      neurogloss heads head:3:4 --attend file --text "open(file); os.remove(" --answer file --wrong self --scale 0
    """
    causal = {"knock_out": knock_out, "edges": edges, "factors": scale or [], "renormalise": renormalise,
              "attend": attend, "answer": answer, "wrong": wrong, "seed": seed, "k": k}  # fmt: skip
    if knock_out or scale or attend is not None:
        _change(call, unit, texts_of(text, texts), picture(plot), causal)
        return
    if edges != "all" or renormalise or answer is not None or wrong is not None:
        raise UsageError("--edges, --renormalise, --answer and --wrong belong to --knock-out, --scale or --attend.")
    given = texts_of(text, texts)
    file = picture(plot)
    subject = call.load(unit)
    from agent.toolbox.heads import HeadPatternsArguments
    from neurogloss.render.heads import heads_maps, heads_page
    from neurogloss.render.heatmap import save_heatmaps
    from tools.errors import UnitError
    from tools.units import expand

    chosen = expand(subject, unit or "head:*:*")
    if other := next((one for one in chosen if one.kind != "head"), None):
        raise UnitError(
            f"'{other}' is not an attention head. 'neurogloss lens {other}' shows what it reads and writes."
        )
    arguments = HeadPatternsArguments(
        texts=given or None, layers=list(dict.fromkeys(int(one.where) for one in chosen)), seed=seed
    )
    if len(chosen) == 1:
        call.emit(*_one(subject, chosen[0], arguments, (streams, offset), k))
        if file is not None:
            save_heatmaps(file, _pattern_map(subject, chosen[0], arguments))
        return
    only("one head", offset=offset)
    rows = _many(subject, chosen, arguments, streams)
    listed = [
        {**profile.__dict__, "unit": str(profile.unit), "copying": c.copying, "own": c.own, "matching": c.matching}
        for profile, c in rows
    ]
    value = {"subject": subject.name, "fingerprint": subject.fingerprint, "heads": listed}
    call.emit(value, *heads_page(subject.name, rows, own_texts=bool(given)))
    if file is not None:
        save_heatmaps(file, *heads_maps(rows))


def _change(call: ModelCall, unit: str | None, texts: list[str], file: Path | None, asked: dict[str, Any]) -> None:
    """Heads knocked out, or two answers against each other."""
    if unit is None:
        raise UsageError("Name the heads whose attention is to be changed, such as head:3:3 or 'head:3:*'.")
    factors, attend = asked["factors"], asked["attend"]
    both = asked["answer"] is not None and asked["wrong"] is not None
    if attend is not None and (not both or not texts or asked["knock_out"] or asked["edges"] != "all"):
        raise UsageError("--attend wants --text, --answer and --wrong, and neither --knock-out nor --edges.")
    if attend is None and (asked["answer"] is not None or asked["wrong"] is not None):
        raise UsageError("--answer and --wrong belong to --attend.")
    if attend is None and (len(factors) > 1 or (factors and asked["knock_out"])):
        raise UsageError("Give one of --knock-out and --scale FACTOR; several factors belong to --attend.")
    if attend is None and file is not None:
        raise UsageError("--plot draws patterns, or with --attend the answers by factor; here there is none to draw.")
    call.load_libraries()
    from agent.toolbox.head_edges import (
        ContestArguments,
        KnockOutArguments,
        ScaleAttentionArguments,
        competing,
        knocked_out,
    )
    from neurogloss.render.curves import save_curves
    from neurogloss.render.head_edges import competition_curves, competition_page, knock_out_page

    shared = {"heads": [unit], "renormalise": asked["renormalise"], "seed": asked["seed"]}
    about: Any
    if attend is None:
        knocked = KnockOutArguments(
            **shared, texts=texts or None, edges=asked["edges"], factor=factors[0] if factors else 0.0, k=asked["k"]
        )
        subject = call.load(unit)
        about = knocked_out(subject, knocked)
        page = knock_out_page(about, subject.name, own_texts=bool(texts))
    else:
        contests = [
            ContestArguments(text=text, attend=attend, answer=asked["answer"], wrong=asked["wrong"]) for text in texts
        ]
        scaled = ScaleAttentionArguments(**shared, contests=contests, **({"factors": factors} if factors else {}))
        subject = call.load(unit)
        about = competing(subject, scaled)
        page = competition_page(about, subject.name, asked["answer"], asked["wrong"], attend)
        if file is not None:
            save_curves(file, *competition_curves(about), x_title="factor", y_titles=["logit difference"],
                        title=f"{asked['answer']} against {asked['wrong']}, by attention to {attend}")  # fmt: skip
    call.emit({"subject": subject.name, "fingerprint": subject.fingerprint, **about.to_json()}, *page)


def _one(
    subject: Subject, unit: UnitId, arguments: HeadPatternsArguments, how: tuple[Streams, int], k: int
) -> tuple[Any, ...]:  # fmt: skip
    """One head's result, and its page."""
    from agent.toolbox.heads import head_profiles, pattern_contexts
    from neurogloss.render.heads import head_page
    from tools.head_circuits import head_circuit
    from tools.heads import top_edges

    profile = next(p for p in head_profiles(subject, arguments) if p.unit == unit)
    edges = top_edges(subject, unit, pattern_contexts(subject, arguments), k)
    circuit = head_circuit(subject, unit, k, how[0], offset=how[1])
    value = {
        "unit": str(unit), "subject": subject.name, "fingerprint": subject.fingerprint,
        "pattern": {**profile.__dict__, "unit": str(unit)}, "edges": edges, "circuit": circuit.to_json(),
    }  # fmt: skip
    return value, *head_page(subject.name, profile, edges, circuit, own_texts=arguments.texts is not None)


def _pattern_map(subject: Subject, unit: UnitId, arguments: HeadPatternsArguments) -> HeatMap:
    """Where one head attends in the first of the texts."""
    from agent.toolbox.heads import pattern_contexts
    from neurogloss.render.heads import pattern_map
    from tools.heads import pattern

    ids = pattern_contexts(subject, arguments)[0]
    return pattern_map(unit, subject.pieces(ids), pattern(subject, unit, ids))


def _many(
    subject: Subject, chosen: list[UnitId], arguments: HeadPatternsArguments, streams: Streams
) -> list[tuple[EdgeProfile, HeadCopying]]:
    """Each head's pattern, and what its weights copy."""
    from agent.toolbox.heads import head_profiles
    from tools.head_circuits import layer_copying

    wanted = set(chosen)
    assert arguments.layers is not None
    copying = {c.unit: c for layer in arguments.layers for c in layer_copying(subject, layer, streams)}
    return [(p, copying[p.unit]) for p in head_profiles(subject, arguments) if p.unit in wanted]
