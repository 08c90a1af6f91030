"""What any reader of English knows of words: which belong together. Written down from memory, complete in nothing."""

from __future__ import annotations

_KINDS = {
    "colours": "red blue green yellow black white brown grey pink purple orange violet gold silver crimson",
    "animals": "dog cat horse cow pig sheep goat fox wolf bear lion tiger mouse rat rabbit frog bird duck deer",
    "fruits": "apple pear banana plum cherry grape lemon peach melon berry fig mango orange lime apricot kiwi",
    "food": "bread soup cheese rice cake butter honey salt pepper stew meat fish egg milk sugar flour pasta beans",
    "tools": "hammer knife rope saw ladder spade brush needle drill bucket axe nail screw shovel wrench pliers",
    "instruments": "piano violin flute drum trumpet harp cello guitar organ horn clarinet oboe",
    "months": "January February March April May June July August September October November December",
    "weekdays": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "cities": "London Paris Berlin Madrid Rome Vienna Oslo Lisbon Dublin Prague Athens Moscow Warsaw Tokyo Milan",
    "names": "Anna Ben Maria Peter John Mary Paul Lucy Tom Emma David Sarah James Alice Robert Laura Simon Louis",
    "family": "mother father sister brother uncle aunt son daughter cousin wife husband grandmother child",
    "jobs": "doctor teacher farmer baker nurse lawyer judge cook driver soldier sailor painter writer singer",
    "body": "head hand foot arm leg eye ear nose mouth knee shoulder finger back neck heart",
    "weather": "rain snow wind storm fog frost thunder hail cloud sun ice lightning",
    "vehicles": "car train bus ship boat plane bicycle truck tram sledge lorry taxi wagon",
    "places": "house garden school station street park shop church hospital river island village town forest",
    "money": "price tax bank loan profit debt wage tariff cost budget market income rent",
    "science": "atom planet cell magnet gene fossil enzyme star molecule electron virus orbit quark",
    "units": "metres miles days litres hours years weeks grams kilos feet minutes pounds inches",
    "speech verbs": "said asked told answered shouted whispered claimed replied denied explained cried",
    "motion verbs": "walked ran came went arrived left returned jumped landed travelled moved turned started stopped",
    "giving verbs": "gave handed sent offered passed lent brought showed sold paid",
    "taking verbs": "took found held lost broke kept carried bought caught stole brought sold spotted",
    "thinking verbs": "thinks knows believes hopes fears doubts guesses feels wonders suspects",
    "activities": "running sitting singing sleeping dancing reading cooking swimming talking writing walking eating",
    "being": "was is were are am be been seemed became being",
    "negations": "not never hardly no nor none neither nothing",
    "pronouns": "he she it they we I you him her them us",
    "articles": "the a an this that these those each every some any",
    "prepositions": "in on at by with from to for of under over behind near beside between into without",
    "conjunctions": "and but or because since while although when if unless until",
    "degrees": "very too quite so rather almost nearly extremely",
    "feelings": "happy sad angry calm afraid proud tired lonely glad worried",
    "sizes": "big small large little tall short long huge tiny wide",
    "sentence ends": ". ! ?",
    "pauses": ", ; :",
    "quotes and brackets": "\" ' ( ) [ ] { }",
    "acronyms": "NASA NATO IBM BBC USA FBI CIA UN EU CEO",
    "numbers": "1 2 3 4 5 6 7 8 9 10 11 12 20 30 50 100 1000",
    "years": "1914 1918 1939 1945 1969 1989 1999 2000 2001 2010 2020",
    "number words": "one two three four five six seven eight nine ten",
}  # fmt: skip

KINDS: dict[str, frozenset[str]] = {name: frozenset(words.split()) for name, words in _KINDS.items()}
"""Words by what they have in common."""


def kinds_of(tokens: list[str]) -> list[frozenset[str]]:
    """Kinds to which at least three of some tokens belong, and most of them; the smallest first."""
    words = {token.strip() for token in tokens}
    found = [kind for kind in KINDS.values() if len(words & kind) >= max(3, 0.6 * len(words))]
    return sorted(found, key=lambda kind: (len(kind), sorted(kind)))
