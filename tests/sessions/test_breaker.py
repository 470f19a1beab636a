"""Who is left alone after failures: one token, or all, and for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.core.token_response import Trouble
from sidecar.sessions.breaker import AT_ONCE, DOUBTS, GAPS, PAUSES, SEVERAL, TOKENS, Breaker

NOTICED = 10.0  # seconds within which the return of a provider is noticed
MINUTE = 60.0


def fail(
    breaker: Breaker, key: str, now: float, trouble: Trouble = Trouble.AWAY, **kind: bool
) -> bool:
    """One try that fails at once; whether it refuses the token by now."""
    is_proven = kind.get("is_proven", True)
    assert breaker.begin(key, now, is_proven=is_proven) is None
    try:
        return breaker.failed(key, now, now, trouble, is_proven=is_proven)
    finally:
        breaker.left(key)


def may(breaker: Breaker, key: str, now: float, *, is_proven: bool = True) -> bool:
    """Whether a token is sent; what is begun is left again."""
    why = breaker.begin(key, now, is_proven=is_proven)
    if why is None:
        breaker.left(key)
    return why is None


def opened(now: float = 0.0) -> Breaker:
    """A breaker that leaves all alone."""
    one = Breaker()
    for number in range(SEVERAL):
        fail(one, f"k{number}", now)
    return one


def test_failing_token_pauses_itself_alone_however_often_it_fails() -> None:
    one, now = Breaker(), 0.0
    for _ in range(20):
        fail(one, "bad", now)
        assert not may(one, "bad", now)
        assert may(one, "good", now)
        now += PAUSES[-1]


def test_failures_of_made_up_tokens_make_no_failure_of_a_real_one_forgotten() -> None:
    """Or a token that fails is sent at every request of its user."""
    one = Breaker()
    fail(one, "real", 0.0, Trouble.UNCLEAR)
    for number in range(TOKENS + 1):
        fail(one, f"made-up-{number}", 0.0, Trouble.UNCLEAR, is_proven=False)
    assert not may(one, "real", 0.0)
    assert may(one, "made-up-0", 0.0, is_proven=False)
    assert len(one) == TOKENS + 1


def test_tokens_that_nobody_vouches_for_wait_for_each_other_alone() -> None:
    """However many hang at the provider, proven ones are sent."""
    one = Breaker()
    for number in range(AT_ONCE):
        assert one.begin(f"made-up-{number}", 0.0, is_proven=False) is None
    assert not may(one, "another", 0.0, is_proven=False)
    assert may(one, "real", 0.0)
    one.left("made-up-7")
    assert may(one, "another", 0.0, is_proven=False)


def test_pauses_of_one_token_grow_and_bound_its_tries_in_a_minute() -> None:
    one, tries, now = Breaker(), 0, 0.0
    while now < MINUTE:
        if one.begin("bad", now, is_proven=True) is None:
            one.failed("bad", now, now, Trouble.UNCLEAR, is_proven=True)
            tries += 1
        now += 0.01
    assert 10 <= tries <= 16


def test_several_tokens_without_an_answer_leave_all_alone() -> None:
    one = opened()
    assert not may(one, "other", 0.0)
    assert may(one, "other", GAPS[0])


def test_clear_answer_between_ends_the_series() -> None:
    for trouble in (Trouble.THERE, Trouble.DOUBT, Trouble.MISCONFIGURED, None):
        one = Breaker()
        for number in range(4 * SEVERAL):
            if number % SEVERAL:
                fail(one, f"k{number}", 0.0)
            elif trouble is None:
                one.answered("r", is_renewed=False)
            else:
                fail(one, f"k{number}", 0.0, trouble)
            assert may(one, "other", 0.0)


def test_nonsense_neither_counts_nor_ends_the_series() -> None:
    one = Breaker()
    for number in range(2 * SEVERAL):
        fail(one, f"n{number}", 0.0, Trouble.UNCLEAR)
    assert may(one, "other", 0.0)
    for number in range(SEVERAL):
        assert may(one, "other", 0.0)
        fail(one, f"k{number}", 0.0)
        if number < SEVERAL - 1:
            fail(one, f"m{number}", 0.0, Trouble.UNCLEAR)
    assert not may(one, "other", 0.0)


def test_one_try_at_a_time_and_all_go_on_once_it_is_answered() -> None:
    for is_renewed in (True, False):
        one = opened()
        assert one.begin("first", 1.0, is_proven=True) is None
        assert [may(one, f"o{n}", 1.0) for n in range(5)] == [False] * 5
        one.answered("first", is_renewed=is_renewed)
        one.left("first")
        assert [may(one, f"o{n}", 1.0) for n in range(5)] == [True] * 5


def test_gaps_between_tries_grow_and_start_anew_after_an_answer() -> None:
    one, now = opened(), GAPS[0]
    for number, gap in enumerate([*GAPS, GAPS[-1], GAPS[-1]]):
        fail(one, f"t{number}", now)
        assert not may(one, "other", now + gap - 0.01)
        now += gap
        assert may(one, "other", now)
    one.answered("other", is_renewed=False)
    for number in range(SEVERAL):
        fail(one, f"s{number}", now)
    assert may(one, "other", now + GAPS[0])


def test_it_takes_three_and_not_two() -> None:
    one = Breaker()
    fail(one, "k0", 0.0)
    fail(one, "k1", 0.0)
    for number in range(3):  # one of them again is no third one
        fail(one, "k1", (number + 1) * PAUSES[-1])
    assert may(one, "other", 3 * PAUSES[-1])
    fail(one, "k2", 3 * PAUSES[-1])
    assert not may(one, "other", 3 * PAUSES[-1])


def test_try_that_is_left_without_a_word_makes_way_for_the_next() -> None:
    """As when the store fails before the provider is asked."""
    one = opened()
    assert one.begin("first", 1.0, is_proven=True) is None
    one.left("first")
    assert may(one, "next", 1.0)


def test_try_that_hung_is_followed_soon() -> None:
    """Its return is noticed in time, though a try takes as long as 8 s."""
    one = opened()
    for number in range(5):
        began = 10.0 * (number + 1)
        assert one.begin("only", began, is_proven=True) is None
        one.failed("only", began, began + 8, Trouble.AWAY, is_proven=True)
        one.left("only")
        assert may(one, "only", began + 8 + GAPS[0])
    assert 8 + GAPS[0] < NOTICED


def test_made_up_tokens_hold_up_none_that_are_proven() -> None:
    one = Breaker()
    for number in range(100):
        if one.begin(f"x{number}", 0.0, is_proven=False) is None:
            one.failed(f"x{number}", 0.0, 0.0, Trouble.AWAY, is_proven=False)
            one.left(f"x{number}")
    assert not may(one, "stranger", 0.0, is_proven=False)
    assert may(one, "user", 0.0)
    one.answered("user", is_renewed=True)
    assert may(one, "stranger", 0.0, is_proven=False)


def test_made_up_tokens_take_no_memory() -> None:
    one = Breaker()
    for number in range(TOKENS + 100):
        fail(one, f"k{number}", 0.0, Trouble.THERE)
    assert len(one) == TOKENS
    assert may(one, "k0", 0.0)  # the oldest is forgotten
    assert not may(one, f"k{TOKENS}", 0.0)


def test_doubt_becomes_a_refusal_only_while_others_are_renewed() -> None:
    """Dex says `invalid_request` for a session that a second login has ended."""
    one, now = Breaker(), 0.0
    for _ in range(3 * DOUBTS):
        assert not fail(one, "k", now, Trouble.DOUBT)
        one.answered("refused", is_renewed=False)
        now += PAUSES[-1]
    one.answered("other", is_renewed=True)
    assert fail(one, "k", now, Trouble.DOUBT)


def test_renewals_before_the_first_doubt_do_not_speak_against_a_token() -> None:
    """The provider may have been set up anew meanwhile."""
    one = Breaker()
    one.answered("other", is_renewed=True)
    said = [fail(one, "k", PAUSES[-1] * n, Trouble.DOUBT) for n in range(DOUBTS)]
    assert said == [False] * DOUBTS


def test_few_doubts_are_no_refusal() -> None:
    one, now = Breaker(), 0.0
    for _ in range(DOUBTS - 1):
        assert not fail(one, "k", now, Trouble.DOUBT)
        one.answered("other", is_renewed=True)
        now += PAUSES[-1]


@given(st.floats(10.1, 1e9))
def test_clock_that_was_set_back_pauses_nobody_for_long(back: float) -> None:
    one = opened(now=2e9)
    assert may(one, "k0", 2e9 - back)
    assert may(one, "other", 2e9 - back)


class AnyTraffic(RuleBasedStateMachine):
    """Tokens of users and strangers, whatever the provider says, in any order, with any overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker()
        self.under_way: dict[str, tuple[float, bool]] = {}
        self.silent: set[str] = set()  # since the last clear answer
        self.silent_proven: set[str] = set()

    keys = st.integers(0, 7).map(lambda number: f"k{number}")

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=keys)
    def begin(self, key: str) -> None:
        is_proven = key < "k4"
        if key in self.under_way:
            return
        was_open = self.breaker.is_open(is_proven=is_proven)
        if self.breaker.begin(key, self.now, is_proven=is_proven) is None:
            self.under_way[key] = (self.now, was_open)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), trouble=st.sampled_from(Trouble))
    def fail(self, data: st.DataObject, trouble: Trouble) -> None:
        key = data.draw(st.sampled_from(sorted(self.under_way)))
        began, _ = self.under_way.pop(key)
        is_proven = key < "k4"
        self.breaker.failed(key, began, self.now, trouble, is_proven=is_proven)
        self.breaker.left(key)
        if trouble is Trouble.AWAY:
            self.silent.add(key)
            self.silent_proven |= {key} if is_proven else set()
        elif trouble is not Trouble.UNCLEAR:
            self.forget()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), is_renewed=st.booleans())
    def answer(self, data: st.DataObject, is_renewed: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.under_way)))
        del self.under_way[key]
        self.breaker.answered(key, is_renewed=is_renewed)
        self.breaker.left(key)
        self.forget()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.under_way)))
        del self.under_way[key]
        self.breaker.left(key)

    def forget(self) -> None:
        self.silent.clear()
        self.silent_proven.clear()
        # What is under way from now on was begun when nobody was held up.
        self.under_way = {key: (began, False) for key, (began, _) in self.under_way.items()}

    @invariant()
    def all_are_left_alone_for_several_tokens_only(self) -> None:
        assert self.breaker.is_open(is_proven=False) == (len(self.silent) >= SEVERAL)
        assert self.breaker.is_open(is_proven=True) == (len(self.silent_proven) >= SEVERAL)
        if len(self.silent_proven) < SEVERAL:
            assert may(self.breaker, "fresh", self.now, is_proven=True)

    @invariant()
    def tries_are_made_one_at_a_time(self) -> None:
        assert sum(was_open for _, was_open in self.under_way.values()) <= 1

    @invariant()
    def it_always_recovers(self) -> None:
        """Nobody is held up for longer than the longest pause, but by a try under way."""
        if not any(was_open for _, was_open in self.under_way.values()):
            for number in range(8):
                later = self.now + max(PAUSES[-1], GAPS[-1])
                assert may(self.breaker, f"k{number}", later, is_proven=number < 4)


TestAnyTraffic = AnyTraffic.TestCase
