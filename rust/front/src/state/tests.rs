use super::*;
use crate::control::Reason;

type Effects = Vec<Effect<&'static str>>;

const SECOND: Duration = Duration::from_secs(1);
const START: Duration = Duration::ZERO;
const CALLER: Peer = 900;

fn spec(name: &str, group: &str) -> FunctionSpec {
    FunctionSpec {
        name: name.into(),
        group: group.into(),
        timeout: 5.0,
        concurrency: None,
        per_process: 1,
    }
}

/// A front of an app `shop` with one function `shop.price`, at most 4 runners, 2 starts at once.
fn front() -> State<&'static str> {
    front_with(vec![spec("shop.price", "shop")])
}

fn front_with(functions: Vec<FunctionSpec>) -> State<&'static str> {
    let mut front = State::default();
    front.set(Settings {
        worker: "w".into(),
        runners_max: 4,
        starts_max: 2,
        idle_seconds: 60.0,
        supervisor: 1,
    });
    front.set_functions(functions);
    front.take_effects();
    front.take_load();
    front
}

fn request(id: u64, function: &str) -> Request<&'static str> {
    Request {
        caller: CALLER,
        id,
        function: function.into(),
        is_dry_run: false,
        request_id: format!("r{id}"),
        tail: false,
        payload: "payload",
    }
}

fn call(front: &mut State<&'static str>, id: u64, now: Duration) -> Effects {
    front.call(request(id, "price"), now);
    front.take_effects()
}

/// Starts and connects a runner with one seat; its connection has its number.
fn connect(front: &mut State<&'static str>, number: u64, group: &str, now: Duration) -> Effects {
    connect_with(front, number, group, 1, now)
}

fn connect_with(
    front: &mut State<&'static str>,
    number: u64,
    group: &str,
    seats: usize,
    now: Duration,
) -> Effects {
    front.runner_started(number, group.into(), "token".into());
    assert!(front.runner_connected(number, "token", (seats, &[]), (number, now)));
    front.take_effects()
}

fn end(reason: Reason, detail: i64) -> End {
    End { reason, detail, late: vec![] }
}

fn start(group: &str) -> Effect<&'static str> {
    Effect::Report(EffectReport::Start(group.into()))
}

fn seated(effects: &Effects) -> Vec<(Peer, usize, String)> {
    let of = |effect: &Effect<_>| match effect {
        Effect::Call { runner, seat, request_id, .. } => Some((*runner, *seat, request_id.clone())),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

fn refused(effects: &Effects) -> Vec<(u64, u16, Option<&'static str>)> {
    let of = |effect: &Effect<_>| match effect {
        Effect::Refuse { id, refusal, .. } => Some((*id, refusal.status, refusal.reason)),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

fn errors(effects: &Effects) -> Vec<(u64, String)> {
    let of = |effect: &Effect<_>| match effect {
        Effect::Answer { id, is_failed: true, answer: Answer::OfFront(body), .. } => {
            Some((*id, String::from_utf8(body.clone()).unwrap()))
        }
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

#[test]
fn a_call_without_a_runner_asks_for_one_and_waits() {
    let mut front = front();
    assert_eq!(vec![start("shop")], call(&mut front, 1, START));

    let effects = connect(&mut front, 7, "shop", SECOND);
    assert_eq!(vec![(7, 0, "r1".to_owned())], seated(&effects));

    front.answered(7, 0, false, "42", SECOND);
    let answer = Answer::OfRunner("42");
    let request_id = "r1".to_owned();
    assert_eq!(
        vec![Effect::Answer { caller: CALLER, id: 1, request_id, is_failed: false, answer }],
        front.take_effects()
    );
}

#[test]
fn a_free_runner_takes_the_next_call_without_a_start() {
    let mut front = front();
    connect(&mut front, 1, "shop", START);
    assert_eq!(vec![(1, 0, "r5".to_owned())], seated(&call(&mut front, 5, START)));
    front.answered(1, 0, false, "", START);
    front.take_effects();
    assert_eq!(vec![(1, 0, "r6".to_owned())], seated(&call(&mut front, 6, START)));
}

#[test]
fn the_runner_that_was_busy_last_is_taken_first_so_that_others_become_idle() {
    let mut front = front();
    for number in 1..=3 {
        connect(&mut front, number, "shop", START);
    }
    for id in 0..9 {
        assert_eq!(3, seated(&call(&mut front, id, START))[0].0);
        front.answered(3, 0, false, "", START);
        front.take_effects();
    }
}

#[test]
fn there_is_one_start_for_each_waiting_call_and_no_more_at_once_than_allowed() {
    let mut front = front();
    assert_eq!(vec![start("shop")], call(&mut front, 1, START));
    assert_eq!(vec![start("shop")], call(&mut front, 2, START));
    assert_eq!(Effects::new(), call(&mut front, 3, START), "two are starting");

    let effects = connect(&mut front, 1, "shop", START);
    assert_eq!(1, seated(&effects).len());
    assert!(effects.contains(&start("shop")), "one start is over, and two calls wait");
}

#[test]
fn a_start_that_is_not_needed_any_more_is_not_repeated() {
    let mut front = front();
    call(&mut front, 1, START);
    connect(&mut front, 1, "shop", START);
    front.answered(1, 0, false, "", START);
    front.take_effects();
    assert_eq!(vec![(1, 0, "r2".to_owned())], seated(&call(&mut front, 2, START)));
}

#[test]
fn a_runner_that_ends_before_it_connects_is_asked_for_again() {
    let mut front = front();
    call(&mut front, 1, START);
    front.runner_started(1, "shop".into(), "t".into());
    front.runner_ended(1, end(Reason::Signal, 11), START);
    assert_eq!(vec![start("shop")], front.take_effects());
}

#[test]
fn runners_of_all_groups_together_are_bounded_and_an_idle_one_of_another_group_makes_room() {
    let mut front = front_with(vec![spec("shop.price", "shop"), spec("shop.big", "shop.big")]);
    for number in 1..=4 {
        connect(&mut front, number, "shop.big", START + SECOND * u32::try_from(number).unwrap());
    }
    let effects = call(&mut front, 1, SECOND);
    let dismissed = Effect::Report(EffectReport::Dismissed(1));
    assert_eq!(vec![dismissed, Effect::Leave { runner: 1 }], effects, "idle longest, and no start");
    assert_eq!(Effects::new(), call(&mut front, 2, SECOND), "one leaves already");

    front.runner_disconnected(1, 1, SECOND);
    front.runner_ended(1, end(Reason::Drain, 0), SECOND);
    assert!(front.take_effects().contains(&start("shop")));
}

#[test]
fn a_busy_runner_never_makes_room() {
    let mut front = front_with(vec![spec("shop.price", "shop"), spec("shop.big", "shop.big")]);
    for number in 1..=4 {
        connect(&mut front, number, "shop.big", START);
        front.call(request(number, "big"), START);
    }
    front.take_effects();
    assert_eq!(Effects::new(), call(&mut front, 9, START));
}

#[test]
fn over_its_concurrency_a_function_is_throttled_at_once() {
    let mut price = spec("shop.price", "shop");
    price.concurrency = Some(2);
    let mut front = front_with(vec![price]);
    call(&mut front, 1, START);
    call(&mut front, 2, START);
    let reason = Some("ReservedFunctionConcurrentInvocationLimitExceeded");
    assert_eq!(vec![(3, 429, reason)], refused(&call(&mut front, 3, START)));

    connect(&mut front, 1, "shop", START);
    front.answered(1, 0, false, "", START);
    front.take_effects();
    assert_eq!(Vec::<(u64, u16, _)>::new(), refused(&call(&mut front, 4, START)));
}

#[test]
fn a_concurrency_of_zero_switches_a_function_off() {
    let mut price = spec("shop.price", "shop");
    price.concurrency = Some(0);
    assert_eq!(429, refused(&call(&mut front_with(vec![price]), 1, START))[0].1);
}

#[test]
fn a_call_waits_for_a_seat_as_long_as_it_may_run() {
    let mut front = front();
    call(&mut front, 1, START);
    front.tick(Duration::from_millis(4999));
    assert_eq!(Effects::new(), front.take_effects());
    assert_eq!(Some(SECOND * 5), front.due(SECOND));

    front.tick(SECOND * 5);
    let reason = Some("ConcurrentInvocationLimitExceeded");
    assert_eq!(vec![(1, 429, reason)], refused(&front.take_effects()));
    let load = front.take_load().unwrap()["shop.price"];
    assert_eq!(Load { running: 0, queued: 0, calls: 1, throttled: 1 }, load);
}

#[test]
fn calls_are_seated_in_the_order_in_which_they_came() {
    let mut front = front();
    for id in 1..=3 {
        call(&mut front, id, START);
    }
    let mut order = Vec::new();
    order.extend(seated(&connect(&mut front, 1, "shop", START)));
    for _ in 0..2 {
        front.answered(1, 0, false, "", START);
        order.extend(seated(&front.take_effects()));
    }
    let ids: Vec<_> = order.into_iter().map(|(_, _, id)| id).collect();
    assert_eq!(["r1", "r2", "r3"], *ids);
}

#[test]
fn a_runner_with_several_seats_takes_several_calls_and_one_start_is_enough_for_them() {
    let mut slow = spec("shop.price", "shop/async");
    slow.per_process = 3;
    let mut front = front_with(vec![slow]);
    let starts = (1..=3).flat_map(|id| call(&mut front, id, START)).count();
    assert_eq!(1, starts);
    let effects = connect_with(&mut front, 1, "shop/async", 3, START);
    assert_eq!(vec![0, 1, 2], seated(&effects).into_iter().map(|each| each.1).collect::<Vec<_>>());
    assert_eq!(vec![start("shop/async")], call(&mut front, 4, START));
}

#[test]
fn a_dead_runners_calls_fail_with_what_the_supervisor_says_whichever_comes_first() {
    for is_word_first in [true, false] {
        let mut front = front();
        connect(&mut front, 1, "shop", START);
        call(&mut front, 1, START);
        if is_word_first {
            front.runner_ended(1, end(Reason::Exit, 3), START);
            assert_eq!(Effects::new(), front.take_effects(), "its answer may still be on the way");
            front.runner_disconnected(1, 1, START);
        } else {
            front.runner_disconnected(1, 1, START);
            assert_eq!(Effects::new(), front.take_effects(), "the word is awaited");
            front.runner_ended(1, end(Reason::Exit, 3), START);
        }
        let message = "RequestId: r1 Error: Runtime exited with error: exit status 3";
        let error = format!(r#"{{"errorType":"Runtime.ExitError","errorMessage":"{message}"}}"#);
        assert_eq!(vec![(1, error)], errors(&front.take_effects()));
    }
}

#[test]
fn an_answer_that_was_read_wins_over_the_end_of_its_runner() {
    let mut front = front();
    connect(&mut front, 1, "shop", START);
    call(&mut front, 1, START);
    front.runner_ended(1, end(Reason::Timeout, 9), START);
    front.answered(1, 0, false, "42", START);
    front.runner_disconnected(1, 1, START);
    let effects = front.take_effects();
    assert_eq!(Vec::<(u64, String)>::new(), errors(&effects));
    assert!(matches!(&effects[0], Effect::Answer { answer: Answer::OfRunner("42"), .. }));
}

#[test]
fn without_a_word_within_a_second_a_call_fails_for_no_reason() {
    let mut front = front();
    connect(&mut front, 1, "shop", START);
    call(&mut front, 1, START);
    front.runner_disconnected(1, 1, SECOND);
    assert_eq!(Some(SECOND * 2), front.due(SECOND));
    front.tick(SECOND * 2);
    let [(1, error)] = &errors(&front.take_effects())[..] else { panic!("one error") };
    assert!(error.contains("Runtime exited without providing a reason"), "{error}");

    front.runner_ended(1, end(Reason::Signal, 9), SECOND * 3);
    assert_eq!(Effects::new(), front.take_effects(), "it was answered");
}

#[test]
fn only_late_seats_have_timed_out() {
    let mut front = front();
    connect_with(&mut front, 1, "shop", 2, START);
    call(&mut front, 1, START);
    call(&mut front, 2, START);
    let late = End { reason: Reason::Timeout, detail: 9, late: vec![1] };
    front.runner_disconnected(1, 1, START);
    front.runner_ended(1, late, START);
    let mut told = errors(&front.take_effects());
    told.sort_unstable();
    assert!(told[0].1.contains("Runtime exited with error: signal: killed"), "{}", told[0].1);
    assert!(told[1].1.contains("Sandbox.Timedout"), "{}", told[1].1);
    assert!(told[1].1.contains("Task timed out after 5.00 seconds"), "{}", told[1].1);
}

#[test]
fn a_group_that_cannot_start_fails_the_calls_that_wait_for_it_only() {
    let mut front = front_with(vec![spec("shop.price", "shop"), spec("shop.big", "shop.big")]);
    call(&mut front, 1, START);
    front.call(request(2, "big"), START);
    front.take_effects();
    front.start_failed("shop.big", "Runtime.ImportModuleError", "Unable to import module 'app'");
    let effects = front.take_effects();
    assert_eq!(vec![2], errors(&effects).into_iter().map(|each| each.0).collect::<Vec<_>>());
    assert_eq!(vec![(1, 0, "r1".to_owned())], seated(&connect(&mut front, 1, "shop", START)));
}

#[test]
fn a_runner_is_dismissed_when_it_was_idle_long_enough() {
    let mut front = front();
    connect(&mut front, 1, "shop", SECOND);
    assert_eq!(Some(SECOND * 61), front.due(SECOND));
    front.tick(SECOND * 60);
    assert_eq!(Effects::new(), front.take_effects());
    front.tick(SECOND * 61);
    let dismissed = Effect::Report(EffectReport::Dismissed(1));
    assert_eq!(vec![dismissed, Effect::Leave { runner: 1 }], front.take_effects());
    assert_eq!(vec![start("shop")], call(&mut front, 1, SECOND * 61), "it takes no call any more");
}

#[test]
fn a_runner_that_wants_to_leave_gets_no_call_and_is_dismissed_after_its_last() {
    let mut front = front();
    connect(&mut front, 1, "shop", START);
    call(&mut front, 1, START);
    front.runner_leaves(1);
    assert_eq!(Effects::new(), front.take_effects());
    assert_eq!(vec![start("shop")], call(&mut front, 2, START));
    front.answered(1, 0, false, "", START);
    assert!(front.take_effects().contains(&Effect::Leave { runner: 1 }));
}

#[test]
fn a_wrong_token_or_number_is_not_let_in() {
    let mut front = front();
    front.runner_started(1, "shop".into(), "token".into());
    for (number, token) in [(1, "tokex"), (1, ""), (1, "token2"), (2, "token")] {
        assert!(!front.runner_connected(number, token, (1, &[]), (5, START)), "{number} {token}");
    }
    assert!(front.runner_connected(1, "token", (1, &[]), (5, START)));
}

#[test]
fn a_runner_that_connects_again_has_lost_its_calls_and_its_old_connection() {
    let mut front = front();
    connect(&mut front, 1, "shop", START);
    call(&mut front, 1, START);
    assert!(front.runner_connected(1, "token", (1, &[]), (77, START)));
    let effects = front.take_effects();
    assert!(effects.contains(&Effect::Close { peer: 1 }));
    assert_eq!(1, errors(&effects).len());
    front.runner_disconnected(1, 1, START);
    assert_eq!(77, seated(&call(&mut front, 2, START))[0].0);
}

#[test]
fn a_runner_in_a_call_of_a_front_before_does_not_stand_for_a_start() {
    let mut front = front();
    front.runner_is_busy(1, "shop".into(), "token".into());
    assert!(call(&mut front, 1, START).contains(&start("shop")));
    connect(&mut front, 2, "shop", START);

    assert!(front.runner_connected(1, "token", (1, &[]), (1, START)));
    front.take_effects();
    assert_eq!(1, seated(&call(&mut front, 2, START))[0].0);
    assert!(call(&mut front, 3, START).contains(&start("shop")));
}

#[test]
fn a_busy_runner_counts_among_the_most_that_there_may_be() {
    let mut front = front();
    for number in 1..=4 {
        front.runner_is_busy(number, "shop".into(), "token".into());
    }
    assert!(!call(&mut front, 1, START).contains(&start("shop")));

    front.runner_ended(4, end(Reason::Exit, 3), START);
    assert!(front.take_effects().contains(&start("shop")));
}

#[test]
fn seats_that_are_busy_for_a_front_before_get_no_call_until_they_answer() {
    let mut front = front();
    front.runner_started(1, "shop".into(), "token".into());
    assert!(front.runner_connected(1, "token", (2, &[0]), (1, START)));
    front.take_effects();
    assert_eq!(vec![(1, 1, "r1".to_owned())], seated(&call(&mut front, 1, START)));
    call(&mut front, 2, START);
    front.answered(1, 0, false, "for nobody", START);
    let effects = front.take_effects();
    assert_eq!(vec![(1, 0, "r2".to_owned())], seated(&effects));
    assert_eq!(1, effects.len());
}

#[test]
fn a_drain_refuses_new_and_waiting_calls_finishes_running_ones_and_ends_all_runners() {
    let mut front = front();
    connect(&mut front, 1, "shop", START);
    connect(&mut front, 2, "shop", START);
    call(&mut front, 1, START);
    call(&mut front, 2, START);
    call(&mut front, 3, START);
    front.drain();
    assert_eq!(vec![(3, 503, None)], refused(&front.take_effects()));
    assert_eq!(vec![(4, 503, None)], refused(&call(&mut front, 4, START)));

    front.answered(1, 0, false, "", START);
    assert!(front.take_effects().contains(&Effect::Leave { runner: 1 }));
    front.answered(2, 0, false, "", START);
    front.take_effects();
    for number in [1, 2] {
        assert!(!front.is_over());
        front.runner_disconnected(number, number, START);
        front.runner_ended(number, end(Reason::Drain, 0), START);
    }
    assert!(front.is_over());
}

#[test]
fn a_runner_that_connects_during_a_drain_leaves_at_once() {
    let mut front = front();
    call(&mut front, 1, START);
    front.runner_started(1, "shop".into(), "token".into());
    front.drain();
    front.take_effects();
    assert!(front.runner_connected(1, "token", (1, &[]), (1, START)));
    assert!(front.take_effects().contains(&Effect::Leave { runner: 1 }));
}

#[test]
fn short_names_must_be_unique() {
    let mut front = front_with(vec![
        spec("shop.price", "shop"),
        spec("shop.list-price", "shop"),
        spec("bank.rate", "bank"),
        spec("shop.rate", "shop"),
    ]);
    for (name, status) in
        [("rate", 404), ("ice", 404), ("p.price", 404), (".price", 404), ("", 404)]
    {
        front.call(request(1, name), START);
        assert_eq!(status, refused(&front.take_effects())[0].1, "{name}");
    }
    for name in ["price", "shop.price", "shop.rate", "list-price"] {
        front.call(request(1, name), START);
        assert!(refused(&front.take_effects()).is_empty(), "{name}");
    }
}

#[test]
fn a_dry_run_says_that_it_would_work_and_needs_no_runner() {
    let mut front = front();
    front.call(Request { is_dry_run: true, ..request(1, "price") }, START);
    let [Effect::Answer { answer: Answer::Empty, is_failed: false, .. }] = front.take_effects()[..]
    else {
        panic!("an empty answer")
    };
    front.call(Request { is_dry_run: true, ..request(2, "none") }, START);
    assert_eq!(404, refused(&front.take_effects())[0].1);
}

#[test]
fn after_a_reload_waiting_calls_go_to_where_their_function_is_now() {
    let mut front = front_with(vec![spec("shop.price", "shop"), spec("shop.gone", "shop")]);
    call(&mut front, 1, START);
    front.call(request(2, "gone"), START);
    front.take_effects();
    front.set_functions(vec![spec("shop.price", "shop.price")]);
    let effects = front.take_effects();
    assert_eq!(vec![(2, 404, None)], refused(&effects));
    assert!(effects.contains(&start("shop.price")));
    assert_eq!(vec![(8, 0, "r1".to_owned())], seated(&connect(&mut front, 8, "shop.price", START)));
}

#[test]
fn whatever_happens_each_call_is_answered_once_and_bounds_hold() {
    for seed in 0..300 {
        let mut random = Lcg(seed);
        let mut front = front_with(vec![spec("shop.price", "shop"), spec("shop.big", "shop.big")]);
        let (mut asked, mut now, mut next_runner) = (0u64, START, 1u64);
        let mut answers = HashMap::<u64, u32>::new();
        let mut living = BTreeMap::<u64, (bool, Option<u64>)>::new();
        let mut wanted = Vec::<String>::new();
        for _ in 0..400 {
            now += Duration::from_millis(random.below(300));
            match random.below(8) {
                0 | 1 => {
                    asked += 1;
                    let name = if random.below(3) == 0 { "big" } else { "price" };
                    front.call(request(asked, name), now);
                }
                2 => {
                    if let Some(group) = wanted.pop() {
                        front.runner_started(next_runner, group, "t".into());
                        living.insert(next_runner, (false, None));
                        next_runner += 1;
                    }
                }
                3 => {
                    let number = living.iter().find(|(_, each)| !each.0).map(|(n, _)| *n);
                    if let Some(number) = number {
                        assert!(front.runner_connected(number, "t", (1, &[]), (number, now)));
                        living.insert(number, (true, None));
                    }
                }
                4 | 5 => {
                    let busy = living.iter().find(|(_, each)| each.1.is_some()).map(|(n, _)| *n);
                    if let Some(number) = busy {
                        living.insert(number, (true, None));
                        front.answered(number, 0, false, "ok", now);
                    }
                }
                6 => {
                    let place = usize::try_from(random.below(9)).unwrap();
                    if let Some(number) = living.keys().nth(place).copied() {
                        living.remove(&number);
                        if random.below(2) == 0 {
                            front.runner_disconnected(number, number, now);
                            front.runner_ended(number, end(Reason::Signal, 9), now);
                        } else {
                            front.runner_ended(number, end(Reason::Exit, 1), now);
                            front.runner_disconnected(number, number, now);
                        }
                    }
                }
                _ => front.tick(now),
            }
            let mut effects = VecDeque::from(front.take_effects());
            while let Some(effect) = effects.pop_front() {
                match effect {
                    Effect::Call { runner, seat: 0, .. } => {
                        let each = living.get_mut(&runner).expect("a living runner");
                        assert_eq!(None, each.1.replace(1), "one call a seat");
                    }
                    Effect::Answer { id, .. } | Effect::Refuse { id, .. } => {
                        *answers.entry(id).or_default() += 1;
                    }
                    Effect::Report(EffectReport::Start(group)) => wanted.push(group),
                    Effect::Leave { runner } => {
                        assert_eq!(None, living.remove(&runner).expect("a living runner").1);
                        front.runner_disconnected(runner, runner, now);
                        front.runner_ended(runner, end(Reason::Drain, 0), now);
                        effects.extend(front.take_effects());
                    }
                    _ => {}
                }
            }
            assert!(living.len() + wanted.len() <= 4 + 1, "seed {seed}");
        }
        now += SECOND * 100;
        for number in living.keys() {
            front.runner_disconnected(*number, *number, now);
            front.runner_ended(*number, end(Reason::Signal, 9), now);
        }
        front.tick(now);
        for effect in front.take_effects() {
            if let Effect::Answer { id, .. } | Effect::Refuse { id, .. } = effect {
                *answers.entry(id).or_default() += 1;
            }
        }
        assert_eq!(u64::try_from(answers.len()).unwrap(), asked, "seed {seed}");
        assert!(answers.values().all(|times| *times == 1), "seed {seed}");
        assert!(front.calls.is_empty() && front.waiting().next().is_none());
    }
}

struct Lcg(u64);

impl Lcg {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}
