import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from cmwjax.data.synthetic import headlines


def test_another_classifier_learns_the_headlines():
    train, test = headlines(0), headlines(1)
    assert len(set(train.inputs)) == len(train.inputs) == len(train.labels) == 400
    names, counts = np.unique(train.labels, return_counts=True)
    assert len(names) == 4 and counts.tolist() == [100] * 4
    model = make_pipeline(CountVectorizer(), MultinomialNB())
    assert model.fit(train.inputs, train.labels).score(test.inputs, test.labels) > 0.97


def test_headlines_are_a_function_of_the_seed():
    assert headlines(3, size=9) == headlines(3, size=9) != headlines(4, size=9)
    # As if by chance: the order of topics is not that of the list.
    assert len({headlines(seed, size=9).labels for seed in range(5)}) == 5


def test_bad_size_is_named():
    with pytest.raises(ValueError, match="size=0 must be at least 1"):
        headlines(0, size=0)
