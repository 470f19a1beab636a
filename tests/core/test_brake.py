"""The brake on storms of 401: who engages it, who is spared, and when it lets go."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.brake import FIRST_GAP, KEPT, LONGEST_GAP, WATCHED, Brake, BrakeRule, Brakes

RULE = BrakeRule(sessions=5, share=0.5, window=30.0)


def engaged(now: float = 0.0) -> Brake:
    brake = Brake(RULE)
    for number in range(RULE.sessions):
        brake.reject(f"u{number}", f"s{number}", now)
    assert brake.is_engaged
    return brake


# -- engaging --------------------------------------------------------------------------------------


def test_so_many_users_engage_it_and_the_last_one_is_spared() -> None:
    brake = Brake(RULE)
    assert [brake.reject(f"u{at}", f"s{at}", 0.0) for at in range(6)] == [False] * 4 + [True] * 2


def test_one_user_engages_nothing_however_often_and_with_however_many_sessions() -> None:
    brake = Brake(RULE)
    assert not any(brake.reject("u", f"s{at}", 0.0) for at in range(100))
    assert (brake.rejected, brake.is_engaged) == (1, False)


def test_rejections_that_are_spread_over_time_engage_nothing() -> None:
    brake = Brake(RULE)
    assert not any(brake.reject(f"u{at}", f"s{at}", at * 10.0) for at in range(100))


def test_as_many_who_are_accepted_keep_it_from_engaging() -> None:
    """Tokens end one by one on any day: that is no storm."""
    brake = Brake(RULE)
    for at in range(100):
        for one in range(2):
            brake.accept(f"good{at}-{one}", "s", at * 0.1)
        assert not brake.reject(f"bad{at}", "s", at * 0.1)


def test_so_many_that_not_all_are_kept_are_shares_of_the_same_time() -> None:
    """A quarter is no half, though of both kinds as many are kept."""
    brake = Brake(RULE)
    for at in range(6 * KEPT):
        now = at * RULE.window / (6 * KEPT)
        if at % 4 == 3:
            assert not brake.reject(f"u{at}", f"s{at}", now)
        else:
            brake.accept(f"u{at}", f"s{at}", now)
    spared = [brake.reject(f"v{at}", f"s{at}", RULE.window) for at in range(2 * KEPT)]
    assert spared[-1]
    assert not spared[0]


def test_success_of_a_rejected_session_does_not_speak_for_it() -> None:
    """An upstream may look at no token on some path; a new session of the user does speak."""
    brake = Brake(RULE)
    for at in range(4):
        brake.reject(f"u{at}", "old", 0.0)
        brake.accept(f"u{at}", "old", 1.0)
    assert (brake.rejected, brake.judged) == (4, 4)
    brake.accept("u0", "new", 1.0)
    assert (brake.rejected, brake.judged) == (3, 4)


# -- letting go ------------------------------------------------------------------------------------


def test_it_is_released_once_most_are_accepted() -> None:
    brake = engaged()
    for at in range(RULE.sessions):
        brake.accept(f"good{at}", "s", 0.5)
        assert brake.is_engaged
    brake.accept("one more", "s", 0.5)
    assert not brake.is_engaged


def test_it_is_released_once_nobody_is_rejected() -> None:
    brake = engaged()
    brake.look(RULE.window - 0.1)
    assert brake.is_engaged
    brake.look(RULE.window)
    assert not brake.is_engaged


def test_it_stays_engaged_while_few_are_left_and_all_are_rejected() -> None:
    """Else those who stay longest would be logged out after all."""
    brake = engaged()
    brake.reject("u0", "s0", 29.0)
    brake.look(40.0)
    assert (brake.rejected, brake.is_engaged) == (1, True)


def ends(brake: Brake, seconds: int) -> list[int]:
    """When sessions end, if everybody's token is rejected every second."""
    return [
        second
        for second in range(1, seconds)
        for number in range(RULE.sessions)
        if not brake.reject(f"u{number}", "s", float(second))
    ]


def test_sessions_end_more_and_more_rarely_while_all_are_rejected() -> None:
    times = ends(engaged(), 2000)
    assert times[:5] == [1, 3, 7, 15, 31]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == LONGEST_GAP


def test_sessions_end_soon_again_once_new_ones_are_accepted() -> None:
    """Users whose tokens had really ended log in again, one after the other."""
    brake = engaged()
    assert ends(brake, 40)[-1] == 31  # the next one would be at 63
    brake.accept("u9", "logged in again", 40.0)
    assert not brake.reject("u1", "s", 63.0)
    assert brake.reject("u2", "s", 63.5)
    assert not brake.reject("u2", "s", 63.0 + FIRST_GAP)


def test_who_is_accepted_on_one_path_and_rejected_on_another_proves_nothing() -> None:
    brake = engaged()
    assert ends(brake, 40)[-1] == 31
    brake.accept("u9", "logged in again", 40.0)
    brake.reject("u9", "logged in again", 40.0)
    assert not brake.reject("u1", "s", 63.0)
    assert brake.reject("u2", "s", 63.0 + 32)


def test_renewal_that_did_not_help_is_not_tried_again_within_the_window() -> None:
    brake = engaged()
    brake.reject("u0", "s0", 1.0, is_renewed=True)
    brake.reject("u0", "s0", 20.0)
    assert (brake.was_renewed("u0", 20.0), brake.was_renewed("u1", 20.0)) == (True, False)
    assert not brake.was_renewed("u0", 31.0)


# -- whatever happens ------------------------------------------------------------------------------

VERDICTS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 30), st.integers(0, 2), st.floats(0.0, 12.0)),
    max_size=200,
)


@given(VERDICTS)
def test_it_holds_what_its_rule_says(verdicts: list[tuple[bool, int, int, float]]) -> None:
    """Engaged only by enough users within the window; nobody is spared while it is not."""
    brake, now = Brake(RULE), 0.0
    last: dict[str, float] = {}
    for is_rejected, number, session, pause in verdicts:
        now += pause
        user, was_engaged = f"u{number}", brake.is_engaged
        if is_rejected:
            last[user] = now
            is_spared = brake.reject(user, f"{user}-{session}", now)
            assert not is_spared or brake.is_engaged
        else:
            brake.accept(user, f"{user}-{session}", now)
        lately = sum(now - at < RULE.window for at in last.values())
        assert brake.rejected <= lately
        if brake.is_engaged:
            assert brake.rejected >= brake.judged * RULE.share
            assert was_engaged or lately >= RULE.sessions


def test_memory_is_bounded() -> None:
    brake = Brake(BrakeRule(10**9, 1.0, 3600.0))
    for number in range(3 * KEPT):
        brake.accept(f"a{number}", "s", 0.0)
        brake.reject(f"r{number}", "s", 0.0)
    assert (brake.rejected, brake.judged) == (KEPT, 2 * KEPT)


# -- of many routes --------------------------------------------------------------------------------


def test_routes_and_kinds_have_brakes_of_their_own() -> None:
    brakes = Brakes(RULE)
    brake = brakes.watch("/a", is_sealed=False)
    assert brake is not None
    for number in range(RULE.sessions):
        brake.reject(f"u{number}", "s", 0.0)
    assert brakes.is_engaged("/a")
    assert not brakes.is_engaged("/a", is_sealed=True)
    assert not brakes.is_engaged("/b")


def test_nothing_is_watched_without_a_rule_or_a_rejection() -> None:
    assert Brakes(None).watch("/", is_sealed=True) is None
    brakes = Brakes(RULE)
    brake = brakes.watch("/", is_sealed=True)
    assert brake is not None
    brake.reject("u", "s", 0.0)
    brakes.look("/", 1.0, is_sealed=True)
    assert brakes.watched
    brakes.look("/", RULE.window, is_sealed=True)
    assert not brakes.watched


def test_so_many_are_watched_and_an_engaged_one_stays() -> None:
    brakes = Brakes(RULE)
    first = brakes.watch("/first", is_sealed=True)
    assert first is not None
    for number in range(RULE.sessions):
        first.reject(f"u{number}", "s", 0.0)
    for number in range(2 * WATCHED):
        brakes.watch(f"/{number}", is_sealed=True)
    assert len(brakes.watched) == WATCHED
    assert brakes.is_engaged("/first")
