"""The vocabulary of planted subjects: words by category, and how often each is drawn where its category is called for.

Every token is one word (or number, or sign) with a space before it, so that texts read as sentences and no token is a
piece of a word.
"""

from __future__ import annotations

#: Special tokens, in the order of their ids.
BOS, PAD, UNKNOWN = "<s>", "<pad>", "<unk>"

#: Words by category, the most frequent first: within a category the r-th word has weight 1 / (r + 2).
CATEGORIES: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "article": "the a",
        "this": "this that every each some any",
        "of": "of",
        "and": "and or but",
        "when": "when after while before since",
        "prep": "in on at near under behind above beside with without",
        "give to": "to for",
        "be": "was is were are seemed became",
        "adverb": "very quite almost rather too so",
        "negation": "not never hardly",
        "pronoun": "she he they we it you",
        "name": "Anna Ben Clara David Emma Felix Grace Henry Ida Jonas Karin Louis Maria Noah Olive Peter Quinn Rosa "
        "Simon Tina Ursula Victor Wendy Xaver",
        "animal": "dog cat horse bird cow sheep fox bear wolf goat mouse duck frog owl badger beaver",
        "fruit": "apple pear banana plum cherry grape lemon peach melon berry fig mango",
        "tool": "hammer knife rope saw ladder spade brush needle drill bucket chisel wrench",
        "vehicle": "car boat train bus truck bike plane ship tram wagon sledge canoe",
        "food": "bread soup cheese rice cake butter honey salt pepper stew noodles porridge",
        "place": "house garden river street market forest school bridge station harbour church castle village mountain "
        "island desert",
        "city": "London Paris Berlin Madrid Rome Vienna Oslo Lisbon Dublin Prague",
        "body": "hand head eye foot arm leg ear nose knee shoulder",
        "metal": "iron gold silver copper tin lead zinc brass",
        "weather": "rain snow wind fog storm frost thunder hail",
        "music": "piano violin flute drum trumpet harp cello guitar",
        "colour": "red blue green white black yellow brown grey pink purple orange violet",
        "size": "big small long short wide narrow tall tiny huge broad",
        "feeling": "happy sad angry calm proud afraid tired bored jealous unhappy",
        "un": "unable unclear uneven unfair unsafe unusual",
        "did": "walked looked worked waited stopped turned rested landed jumped started",
        "doing": "running sitting singing sleeping dancing reading cooking swimming talking writing",
        "took": "took found spotted held lost sold broke brought kept carried",
        "gave": "gave handed sent offered passed lent",
        "met": "met argued played travelled",
        "said": "said asked told answered shouted whispered claimed denied",
        "think": "thinks knows hopes fears believes doubts",
        "digit": "1 2 3 4 5 6 7 8 9 10 12 20 50 100",
        "year": "1914 1945 1969 1989 2001 2020",
        "unit": "metres hours days miles grams litres minutes pounds",
        "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "month": "January March April June July August October December",
        "agency": "NASA NATO UNESCO FIFA BBC IBM",
        "court": "judge lawyer witness jury verdict appeal",
        "science": "atom planet cell magnet gene fossil enzyme quark",
        "trade": "price tax bank loan profit debt wage tariff",
        "stop": ". ! ?",
        "comma": ", ; :",
        "quote": '"',
    }.items()
}

#: Every word once, in the order of the categories.
WORDS: tuple[str, ...] = tuple(word for words in CATEGORIES.values() for word in words)


def piece(word: str) -> str:
    """A word as its token's text."""
    return f" {word}"


def pieces(*categories: str) -> tuple[str, ...]:
    """The tokens' texts of some categories."""
    return tuple(piece(word) for category in categories for word in CATEGORIES[category])


def weights(category: str) -> tuple[float, ...]:
    """How likely each word of a category is where the category is called for; they sum to 1."""
    raw = [1.0 / (rank + 2) for rank in range(len(CATEGORIES[category]))]
    return tuple(value / sum(raw) for value in raw)


#: Tokens in the order of their ids.
TOKENS: tuple[str, ...] = (BOS, PAD, UNKNOWN, *(piece(word) for word in WORDS))
