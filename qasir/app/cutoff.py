"""From which score on a hit fits: the most that chance alone would give a query in this corpus.

**The rule.** Most of a corpus has nothing to do with a query, and what that scores is noise with some mean m and
standard deviation s. The best of n noise scores grows with n; its characteristic largest value, which one of n reaches
on average, is for normal noise

    cut-off = m + s * z,  z = the normal quantile at 1 - 1/n

m and s come from the query's own scores of a fixed random sample of stored units, without the highest tenth, which is
where things that do fit are; they are corrected for that as for a normal distribution. For videos, units are super
images, each scored by the method as if it were a video, and n is how many there are. For moments they are the units
that moments are made of, and n is how many windows there are to choose from, about a quarter of the units. Where scores
are standardised over the videos (several parts, or two indexes), the videos' own scores are the sample, and n is their
number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from qasir.index.spec import EncoderSpec
from qasir.retrieval.methods.method import Method
from qasir.retrieval.moments import finest
from qasir.retrieval.ranker import Ranker
from qasir.retrieval.scoring import best_device, score_each
from qasir.retrieval.vector_source import FeatureTable, VectorSource, VideoList
from qasir.retrieval.vectors import Features

if False:  # for types only
    from qasir.retrieval.methods.pooled import Pooled

_SAMPLE = 2048
"""Units whose scores are taken for noise."""
_FEWEST = 30
"""With fewer scores nothing is said."""
_KEPT = 0.9
_UNITS_A_WINDOW = 4
"""On the demo there were 4.1 cells for each window that the rule of moments makes."""
