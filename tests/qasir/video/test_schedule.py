"""The rule by which keyframes are sampled, on made-up times."""

import random
from fractions import Fraction
from itertools import pairwise

import pytest

from qasir.video.schedule import KeyframeRule, ScheduleHand, Timeline

EVERY_TENTH = list(range(0, 1000, 10))
"""Ten seconds, ten frames a second, a hundred ticks a second."""


def ticks(keys, *, shown=EVERY_TENTH, end=1000, rate="1", max_gap="4"):
    timeline = Timeline(Fraction(1, 100), 0, shown, keys, end)
    return timeline.schedule(KeyframeRule(Fraction(rate), Fraction(max_gap))).ticks


def test_the_first_keyframe_of_each_period_is_a_sample():
    assert ticks([0, 90, 100, 190, 310, 390, 610, 990]) == [0, 100, 310, 610, 990]
    assert ticks(EVERY_TENTH, rate="0.5") == [0, 200, 400, 600, 800]
    assert ticks([0, 190, 200, 390, 400, 590, 610, 900], rate="0.5", max_gap="2.5") == [0, 200, 400, 610, 750, 900]


def test_a_distance_above_the_gap_is_parted_evenly():
    assert ticks([0, 400, 800]) == [0, 400, 800], "4 s are not above the gap"
    assert ticks([0, 410, 800]) == [0, 200, 410, 800], "half of 4.1 s, and the frame on display then"
    assert ticks([0, 900], max_gap="3") == [0, 300, 600, 900]
    assert ticks([0, 910], max_gap="3") == [0, 220, 450, 680, 910]


def test_the_end_of_the_video_ends_a_distance_too():
    assert ticks([0, 400]) == [0, 400, 700]
    assert ticks([0, 400, 600]) == [0, 400, 600]
    assert ticks([0]) == [0, 330, 660]


def test_the_first_displayed_frame_counts_as_a_keyframe():
    assert ticks([50, 190, 390, 590, 790, 990]) == [0, 190, 390, 590, 790, 990]
    assert ticks([-120, 300, 600, 900]) == [0, 300, 600, 900]
    assert ticks([]) == [0, 330, 660]


def test_no_frame_is_taken_twice_where_frames_last_longer_than_the_distances():
    assert ticks([0], shown=[0, 800]) == [0], "at 3.3 and 6.7 s the first frame is on display"
    assert ticks([0], shown=[0, 300, 500, 990], max_gap="1") == [0, 300, 500]


@pytest.mark.parametrize(
    ("keys", "starts"), [([0, 410, 800], [0, 0, 410, 800]), ([-30, 410, 800], [-30, -30, 410, 800])]
)
def test_decoding_begins_at_the_keyframe_before(keys, starts):
    timeline = Timeline(Fraction(1, 100), 0, EVERY_TENTH, keys, 1000)
    assert timeline.schedule(KeyframeRule(Fraction(1), Fraction(4))).starts == starts


def slowly(keys, shown, end, rate, max_gap):
    """In seconds, by the rule's own words."""
    first_of = {}
    for at in [0, *(key for key in keys if key > 0)]:
        first_of.setdefault(at * rate // 1, at)
    taken = sorted(first_of.values())
    found = set(taken)
    for a, b in pairwise([*taken, end]):
        n = -(-(b - a) // max_gap) if b - a > max_gap else 1
        found |= {max(at for at in shown if at <= a + i * (b - a) / n) for i in range(1, int(n))}
    return sorted(found)


@pytest.mark.parametrize("seed", range(20))
def test_uneven_frames_and_keyframes_give_what_the_rule_says(seed):
    chance = random.Random(seed)
    base = Fraction(1001, chance.choice([1000, 24000, 30000, 90000]))
    shown = [0]
    for _ in range(chance.randint(1, 200)):
        shown.append(shown[-1] + chance.randint(1, 40))
    end = shown[-1] + chance.randint(1, 40)
    keys = sorted({at - chance.choice([0, 0, 50]) for at in shown if chance.random() < 0.2 and at})
    keys = [key for key in keys if key in shown or key < 0]
    rate = 1 / (chance.randint(1, 60) * base + Fraction(chance.randint(0, 9), 1000))
    max_gap = Fraction(chance.randint(1, 20), 10) / rate
    schedule = Timeline(base, 7, shown, keys, end).schedule(KeyframeRule(rate, max_gap))
    expected = slowly([key * base for key in keys], [at * base for at in shown], end * base, rate, max_gap)
    assert [tick * base for tick in schedule.ticks] == expected
    assert all(b > a for a, b in pairwise(schedule.ticks))


def test_parts_add_up_and_only_the_last_knows_the_end():
    schedule = Timeline(Fraction(1, 100), 0, EVERY_TENTH, EVERY_TENTH, 1000).schedule(
        KeyframeRule(Fraction(1), Fraction(4))
    )
    parts = [schedule.part(a, b) for a, b in [(0, 3), (3, 3), (3, 8), (8, None), (20, None)]]
    assert [part.ticks for part in parts] == [[0, 100, 200], [], [300, 400, 500, 600, 700], [800, 900], []]
    assert [part.first for part in parts] == [0, 3, 3, 8, 20]
    assert [part.end for part in parts] == [None, None, None, 1000, 1000]
    assert parts[2].part(5, 7).ticks == [500, 600]
    assert [parts[2].index_at(Fraction(seconds)) for seconds in ("2.5", "3", "4.01", "9")] == [3, 3, 5, 8]


def test_a_hand_goes_from_sample_to_sample():
    hand = ScheduleHand(
        Timeline(Fraction(1, 100), 0, EVERY_TENTH, [0, 250], 500).schedule(KeyframeRule(Fraction(1), Fraction(4)))
    )
    assert (hand.index, hand.tick, hand.time_s, hand.next_s) == (0, 0, 0.0, 2.5)
    assert [hand.next_from(tick) for tick in (0, 1, 250, 251)] == [0, 250, 250, None]
    hand.advance()
    assert (hand.index, hand.tick, hand.time_s, hand.next_s, hand.done) == (1, 250, 2.5, None, False)
    hand.advance()
    assert hand.done


def test_a_hundred_thousand_keyframes_take_no_time_to_speak_of():
    shown = range(0, 100_000 * 40, 40)
    schedule = Timeline(Fraction(1, 1000), 0, shown, shown, 4_000_000).schedule(KeyframeRule(Fraction(1), Fraction(4)))
    assert list(schedule.ticks) == list(range(0, 4_000_000, 1000))
