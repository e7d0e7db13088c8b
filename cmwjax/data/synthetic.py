"""Made-up data, which a small model learns in seconds: for trying out a program."""

from cmwjax.data.csv_files import CsvFile
from cmwjax.randomness import Purpose, Seed, generator

TOPICS = {
    "health": "doctor hospital nurse vaccine virus patient clinic surgery",
    "music": "singer album concert guitar band festival song stage",
    "politics": "minister vote senate election law party mayor debate",
    "sport": "goal coach league match striker cup referee stadium",
}
FILLERS = (
    "a after again all and as at before for from has in is it more new no now of on "
    "over says than that the this to today up was week when who why will with year"
)


def headlines(seed: Seed, *, size: int = 400) -> CsvFile:
    """Makes up headlines of four topics, equally many of each.

    Two to four words tell the topic, four to eight do not, in any order. Every seed
    has the same words, so another one makes a test set.

    Args:
      seed: seed of the draw.
      size: number of headlines N.

    Returns:
      Texts and the names of their topics, as `csv_files.read_csv` would read them, in
      random order.

    Raises:
      ValueError: if size is below 1.
    """
    if size < 1:
        raise ValueError(f"size={size} must be at least 1 headline.")
    rng = generator(seed, Purpose.HEADLINES)
    labels = [list(TOPICS)[i % len(TOPICS)] for i in rng.permutation(size)]
    texts = []
    for label in labels:
        telling = rng.choice(TOPICS[label].split(), rng.integers(2, 5), replace=False)
        others = rng.choice(FILLERS.split(), rng.integers(4, 9), replace=False)
        text = " ".join(rng.permutation([*telling, *others]))
        texts.append(text.capitalize())
    return CsvFile(("text",), tuple(texts), tuple(labels))
