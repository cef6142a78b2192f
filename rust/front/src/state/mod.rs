//! The rules of the front, without I/O and clocks: who gets a seat, who waits, who is refused, which
//! runners are asked for and which are dismissed. docs/front.md, "Rules".
//!
//! `B` is the payload of a call or of an answer. Times are those since the front started.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::control::{End, FunctionSpec, Load, Report, Settings};
use crate::errors::{died, error_object, Refusal};

/// How long the word on how a runner ended may come after its connection ended, or the other way
/// round.
pub const WORD_AFTER: Duration = Duration::from_secs(1);

/// A connection of the front.
pub type Peer = u64;

/// A call, as its caller asks for it.
#[derive(Debug)]
pub struct Request<B> {
    /// The connection of the caller.
    pub caller: Peer,
    /// The caller's number for it.
    pub id: u64,
    /// Name of the function, with or without the app.
    pub function: String,
    /// Whether only to say if it could be called.
    pub is_dry_run: bool,
    /// Id of the call.
    pub request_id: String,
    /// Whether the end of what the call prints is wanted.
    pub tail: bool,
    /// The payload, with what else is passed on.
    pub payload: B,
}

/// The answer of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<B> {
    /// What its runner sent.
    OfRunner(B),
    /// An error object of the front.
    OfFront(Vec<u8>),
    /// A dry run: nothing.
    Empty,
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<B> {
    /// Send a call to a runner.
    Call {
        /// The connection of the runner.
        runner: Peer,
        /// Its seat.
        seat: usize,
        /// Full name of the function.
        function: String,
        /// Id of the call.
        request_id: String,
        /// Longest duration.
        timeout: Duration,
        /// Whether the end of what it prints is wanted.
        tail: bool,
        /// The payload.
        payload: B,
    },
    /// Send an answer to a caller.
    Answer {
        /// Its connection.
        caller: Peer,
        /// Its number for the call.
        id: u64,
        /// Id of the call.
        request_id: String,
        /// Whether the function failed.
        is_failed: bool,
        /// What.
        answer: Answer<B>,
    },
    /// Tell a caller that the call was not made.
    Refuse {
        /// Its connection.
        caller: Peer,
        /// Its number for the call.
        id: u64,
        /// Why.
        refusal: Refusal,
    },
    /// Tell a runner to leave.
    Leave {
        /// Its connection.
        runner: Peer,
    },
    /// Close a connection.
    Close {
        /// Which.
        peer: Peer,
    },
    /// Tell the supervisor.
    Report(EffectReport),
}

/// A report that follows from a rule.
#[derive(Debug, PartialEq, Eq)]
pub enum EffectReport {
    /// A runner is needed in a group.
    Start(String),
    /// A runner was told to leave.
    Dismissed(u64),
}

impl From<EffectReport> for Report {
    fn from(report: EffectReport) -> Self {
        match report {
            EffectReport::Start(group) => Self::StartRunner { group },
            EffectReport::Dismissed(runner) => Self::RunnerDismissed { runner },
        }
    }
}

#[derive(Debug)]
struct Function {
    spec: FunctionSpec,
    load: Load,
}

#[derive(Debug)]
struct Call<B> {
    caller: Peer,
    id: u64,
    function: String,
    request_id: String,
    timeout: Duration,
    tail: bool,
    /// Until it is in a seat.
    payload: Option<B>,
    /// When it has waited long enough.
    wait_until: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seat {
    Free,
    /// Of a front before this one; its answer goes to nobody.
    Orphan,
    Call(u64),
}

#[derive(Debug)]
struct Runner {
    group: String,
    token: String,
    /// Whether it counts among its group's `starting`.
    is_starting: bool,
    /// Its connection, once it has one.
    peer: Option<Peer>,
    seats: Vec<Seat>,
    idle_since: Option<Duration>,
    is_dismissed: bool,
    /// It wants no more calls.
    is_leaving: bool,
    /// When its connection or its process ended, whichever was first.
    lost: Option<Duration>,
    end: Option<End>,
}

impl Runner {
    fn free_seat(&self) -> Option<usize> {
        let takes = self.is_there() && !self.is_leaving;
        self.seats.iter().position(|seat| takes && *seat == Seat::Free)
    }

    fn is_there(&self) -> bool {
        self.peer.is_some() && !self.is_dismissed && self.end.is_none()
    }

    fn is_idle(&self) -> bool {
        self.is_there() && self.seats.iter().all(|seat| *seat == Seat::Free)
    }
}

#[derive(Debug, Default)]
struct Group {
    queue: VecDeque<u64>,
    /// Runners asked for that the supervisor has not started yet.
    requested: usize,
    /// Started runners that will soon connect.
    starting: usize,
    /// Runners with a free seat; the last one gets the next call, so that the others become idle.
    free: Vec<u64>,
}

/// All that the front knows.
#[derive(Debug)]
pub struct State<B> {
    settings: Settings,
    functions: HashMap<String, Function>,
    groups: HashMap<String, Group>,
    runners: BTreeMap<u64, Runner>,
    calls: HashMap<u64, Call<B>>,
    next_call: u64,
    is_draining: bool,
    is_load_changed: bool,
    /// When the next look at the time will be, and whether something is due before.
    next_look: Duration,
    is_due_sooner: bool,
    effects: Vec<Effect<B>>,
}

impl<B> Default for State<B> {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            functions: HashMap::new(),
            groups: HashMap::new(),
            runners: BTreeMap::new(),
            calls: HashMap::new(),
            next_call: 0,
            is_draining: false,
            is_load_changed: false,
            next_look: Duration::ZERO,
            is_due_sooner: false,
            effects: Vec::new(),
        }
    }
}

impl<B> State<B> {
    /// Returns what is to be done since the last time.
    pub fn take_effects(&mut self) -> Vec<Effect<B>> {
        std::mem::take(&mut self.effects)
    }

    /// Whether all is done after a drain.
    pub fn is_over(&self) -> bool {
        self.is_draining && self.calls.is_empty() && self.runners.is_empty()
    }

    /// Returns what runs and waits, if it has changed since the last time.
    pub fn take_load(&mut self) -> Option<BTreeMap<String, Load>> {
        std::mem::take(&mut self.is_load_changed)
            .then(|| self.functions.iter().map(|(name, each)| (name.clone(), each.load)).collect())
    }

    /// Whether `take_load` would return something.
    pub fn is_load_changed(&self) -> bool {
        self.is_load_changed
    }

    // ---------------------------------------------------------------- the supervisor

    /// Sets bounds.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Sets the functions. Calls that wait for a function which is gone are refused. Runners that
    /// were asked for are not started any more, and asked for again if calls wait.
    pub fn set_functions(&mut self, specs: Vec<FunctionSpec>) {
        for group in self.groups.values_mut() {
            group.requested = 0;
        }
        let mut before = std::mem::take(&mut self.functions);
        for spec in specs {
            let load = before.remove(&spec.name).map(|each| each.load).unwrap_or_default();
            self.functions.insert(spec.name.clone(), Function { spec, load });
        }
        let waiting: Vec<u64> =
            self.groups.values_mut().flat_map(|group| group.queue.drain(..)).collect();
        let mut waiting = waiting;
        waiting.sort_unstable();
        for number in waiting {
            let Some(call) = self.calls.get(&number) else { continue };
            match self.functions.get(&call.function) {
                Some(function) => {
                    let group = function.spec.group.clone();
                    self.groups.entry(group).or_default().queue.push_back(number);
                }
                None => self.refuse(number, Refusal::not_found),
            }
        }
        self.is_load_changed = true;
        self.seat_all();
    }

    /// Notes a process that will connect.
    pub fn runner_started(&mut self, number: u64, group: String, token: String) {
        let of_group = self.groups.entry(group.clone()).or_default();
        of_group.requested = of_group.requested.saturating_sub(1);
        of_group.starting += 1;
        self.add_runner(number, group, token, true);
    }

    /// Notes a process in a call of a front before this one. It will connect after that call, which
    /// may be long: the calls that wait have other runners started for them meanwhile.
    pub fn runner_is_busy(&mut self, number: u64, group: String, token: String) {
        self.add_runner(number, group, token, false);
    }

    fn add_runner(&mut self, number: u64, group: String, token: String, is_starting: bool) {
        let runner = Runner {
            group,
            token,
            is_starting,
            peer: None,
            seats: Vec::new(),
            idle_since: None,
            is_dismissed: false,
            is_leaving: false,
            lost: None,
            end: None,
        };
        self.runners.insert(number, runner);
    }

    /// Notes how a process ended. Its calls are answered when its connection has ended, too.
    pub fn runner_ended(&mut self, number: u64, end: End, now: Duration) {
        self.due_at(now + WORD_AFTER);
        let Some(runner) = self.runners.get_mut(&number) else { return };
        runner.end = Some(end);
        runner.lost.get_or_insert(now);
        if runner.peer.is_none() {
            self.bury(number);
        }
    }

    /// Fails the calls that wait in a group.
    pub fn start_failed(&mut self, group: &str, kind: &str, message: &str) {
        let Some(of_group) = self.groups.get_mut(group) else { return };
        of_group.requested = 0;
        for number in std::mem::take(&mut of_group.queue) {
            let Some(call) = self.calls.remove(&number) else { continue };
            self.load(&call.function, |load| load.queued = load.queued.saturating_sub(1));
            let answer = Answer::OfFront(error_object(kind, message.to_owned()));
            self.answer(call, true, answer);
        }
        self.plan();
    }

    /// Refuses new and waiting calls, and tells each runner to leave that has no call.
    pub fn drain(&mut self) {
        self.is_draining = true;
        let waiting: Vec<u64> =
            self.groups.values_mut().flat_map(|group| group.queue.drain(..)).collect();
        for number in waiting {
            self.refuse(number, |_| Refusal::draining());
        }
        let idle: Vec<u64> =
            self.runners.iter().filter(|(_, each)| each.is_idle()).map(|(n, _)| *n).collect();
        for number in idle {
            self.dismiss(number);
        }
    }

    // ---------------------------------------------------------------- runners

    /// A runner has connected. Returns whether it may: its number and token are known.
    ///
    /// # Arguments
    /// `busy`: seats with calls of a front before this one.
    pub fn runner_connected(
        &mut self,
        number: u64,
        token: &str,
        (seats, busy): (usize, &[usize]),
        (peer, now): (Peer, Duration),
    ) -> bool {
        self.due_at(self.idle_until(now));
        let Some(runner) = self.runners.get_mut(&number) else { return false };
        if !is_equal(runner.token.as_bytes(), token.as_bytes()) || runner.end.is_some() {
            return false;
        }
        if let Some(before) = runner.peer.take() {
            self.effects.push(Effect::Close { peer: before });
        }
        let was_starting = std::mem::take(&mut runner.is_starting);
        let lost = std::mem::take(&mut runner.seats);
        runner.peer = Some(peer);
        runner.lost = None;
        runner.is_leaving = false;
        runner.idle_since = Some(now);
        runner.seats = (0..seats)
            .map(|seat| if busy.contains(&seat) { Seat::Orphan } else { Seat::Free })
            .collect();
        let group = runner.group.clone();
        for (seat, what) in lost.into_iter().enumerate() {
            if let Seat::Call(call) = what {
                self.fail(call, None, seat);
            }
        }
        if was_starting {
            let of_group = self.groups.entry(group.clone()).or_default();
            of_group.starting = of_group.starting.saturating_sub(1);
        }
        self.note_free(number);
        if self.is_draining {
            self.dismiss_if_idle(number);
        }
        self.seat_all();
        true
    }

    /// The connection of a runner has ended.
    pub fn runner_disconnected(&mut self, number: u64, peer: Peer, now: Duration) {
        self.due_at(now + WORD_AFTER);
        let Some(runner) = self.runners.get_mut(&number) else { return };
        if runner.peer != Some(peer) {
            return; // it has connected again meanwhile
        }
        runner.peer = None;
        runner.lost.get_or_insert(now);
        if runner.end.is_some() {
            self.bury(number);
        }
    }

    /// A runner wants no more calls: it is dismissed once its seats are free.
    pub fn runner_leaves(&mut self, number: u64) {
        if let Some(runner) = self.runners.get_mut(&number) {
            runner.is_leaving = true;
            self.dismiss_if_idle(number);
        }
    }

    /// A runner has answered. Answers for nobody are dropped.
    pub fn answered(
        &mut self,
        number: u64,
        seat: usize,
        is_failed: bool,
        answer: B,
        now: Duration,
    ) {
        self.due_at(self.idle_until(now));
        let Some(runner) = self.runners.get_mut(&number) else { return };
        let Some(place) = runner.seats.get_mut(seat) else { return };
        let was = std::mem::replace(place, Seat::Free);
        if was == Seat::Free {
            return;
        }
        if runner.is_idle() {
            runner.idle_since = Some(now);
        }
        let is_leaving = runner.is_leaving || self.is_draining;
        if let Seat::Call(call) = was {
            if let Some(call) = self.calls.remove(&call) {
                self.load(&call.function, |load| load.running = load.running.saturating_sub(1));
                self.answer(call, is_failed, Answer::OfRunner(answer));
            }
        }
        if is_leaving {
            self.dismiss_if_idle(number);
            return;
        }
        self.note_free(number);
        let group = self.runners.get(&number).map(|runner| runner.group.clone());
        if let Some(group) = group {
            self.seat(&group);
        }
    }

    // ---------------------------------------------------------------- callers

    /// Takes a call, or refuses it.
    pub fn call(&mut self, request: Request<B>, now: Duration) {
        let Request { caller, id, .. } = request;
        match self.admitted(&request) {
            Err(refusal) => self.effects.push(Effect::Refuse { caller, id, refusal }),
            Ok(_) if request.is_dry_run => self.effects.push(Effect::Answer {
                caller,
                id,
                request_id: request.request_id,
                is_failed: false,
                answer: Answer::Empty,
            }),
            Ok(name) => self.queue(name, request, now),
        }
    }

    fn admitted(&mut self, request: &Request<B>) -> Result<String, Refusal> {
        if self.is_draining {
            return Err(Refusal::draining());
        }
        let name = self.full_name(&request.function);
        let name = name.ok_or_else(|| Refusal::not_found(&request.function))?;
        let Some(function) = self.functions.get_mut(&name) else {
            return Err(Refusal::not_found(&name));
        };
        let at_once = function.load.running + function.load.queued;
        if function.spec.concurrency.is_some_and(|most| at_once >= most) {
            function.load.throttled += 1;
            self.is_load_changed = true;
            return Err(Refusal::over_concurrency());
        }
        Ok(name)
    }

    /// Returns the full name of a function; `None`: there is none, or a short name has several.
    fn full_name(&self, name: &str) -> Option<String> {
        if self.functions.contains_key(name) {
            return Some(name.to_owned());
        }
        let mut found = self.functions.keys().filter(|full| {
            full.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')) && !name.contains('.')
        });
        let first = found.next()?;
        found.next().is_none().then(|| first.clone())
    }

    fn queue(&mut self, name: String, request: Request<B>, now: Duration) {
        let Some(function) = self.functions.get_mut(&name) else { return };
        let timeout = Duration::try_from_secs_f64(function.spec.timeout).unwrap_or(Duration::MAX);
        let group = function.spec.group.clone();
        function.load.queued += 1;
        function.load.calls += 1;
        self.is_load_changed = true;
        let wait_until = now.saturating_add(timeout);
        self.due_at(wait_until);
        let number = self.next_call;
        self.next_call += 1;
        let call = Call {
            caller: request.caller,
            id: request.id,
            function: name,
            request_id: request.request_id,
            timeout,
            tail: request.tail,
            payload: Some(request.payload),
            wait_until,
        };
        self.calls.insert(number, call);
        self.groups.entry(group.clone()).or_default().queue.push_back(number);
        self.seat(&group);
        if self.calls.get(&number).is_some_and(|call| call.payload.is_some()) {
            self.plan(); // it waits
        }
    }

    // ---------------------------------------------------------------- time

    /// Does what is due: ends waits, gives up on words that do not come, dismisses idle runners.
    pub fn tick(&mut self, now: Duration) {
        let late: Vec<u64> = self
            .waiting()
            .filter(|number| self.calls.get(number).is_some_and(|call| call.wait_until <= now))
            .collect();
        for group in self.groups.values_mut() {
            group.queue.retain(|number| !late.contains(number));
        }
        for number in late {
            self.refuse(number, |_| Refusal::no_seat());
        }
        let lost: Vec<u64> = self
            .runners
            .iter()
            .filter(|(_, each)| each.lost.is_some_and(|lost| lost + WORD_AFTER <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            if self.runners.get(&number).is_some_and(|each| each.end.is_some()) {
                self.bury(number);
            } else {
                self.fail_calls(number);
            }
        }
        let idle_after = Duration::try_from_secs_f64(self.settings.idle_seconds);
        let idle: Vec<u64> = self
            .runners
            .iter()
            .filter(|(_, each)| each.is_idle())
            .filter(|(_, each)| match (each.idle_since, &idle_after) {
                (Some(since), Ok(after)) => since.saturating_add(*after) <= now,
                _ => false,
            })
            .map(|(number, _)| *number)
            .collect();
        for number in idle {
            self.dismiss(number);
        }
    }

    /// Returns when [`State::tick`] has to be called again; `None`: not before something happens.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        let waits = self.waiting().filter_map(|number| Some(self.calls.get(&number)?.wait_until));
        let words = self.runners.values().filter_map(|each| Some(each.lost? + WORD_AFTER));
        let idle_after = Duration::try_from_secs_f64(self.settings.idle_seconds).ok();
        let idle = self
            .runners
            .values()
            .filter(|each| each.is_idle())
            .filter_map(|each| each.idle_since?.checked_add(idle_after?));
        waits.chain(words).chain(idle).min().map(|due| due.max(now))
    }

    /// Notes when the next look at the time will be, which takes in all that is due until then.
    pub fn will_look(&mut self, at: Duration) {
        self.next_look = at;
        self.is_due_sooner = false;
    }

    /// Whether something is due before that, since the note.
    pub fn is_due_sooner(&self) -> bool {
        self.is_due_sooner
    }

    /// WHY: to find out what is due first takes longer the more calls wait, so a call must not.
    fn due_at(&mut self, at: Duration) {
        self.is_due_sooner |= at < self.next_look;
    }

    /// When a runner that is idle from now on is dismissed.
    fn idle_until(&self, now: Duration) -> Duration {
        let after = Duration::try_from_secs_f64(self.settings.idle_seconds);
        now.saturating_add(after.unwrap_or(Duration::MAX))
    }

    fn waiting(&self) -> impl Iterator<Item = u64> + '_ {
        self.groups.values().flat_map(|group| group.queue.iter().copied())
    }

    // ---------------------------------------------------------------- seats

    fn seat_all(&mut self) {
        let groups: Vec<String> = self.groups.keys().cloned().collect();
        for group in groups {
            self.seat(&group);
        }
        self.plan();
    }

    /// Gives free seats of a group to the calls that have waited longest.
    fn seat(&mut self, group: &str) {
        while let Some((number, seat, peer)) = self.free_seat(group) {
            let Some(of_group) = self.groups.get_mut(group) else { return };
            let Some(waiting) = of_group.queue.pop_front() else { return };
            let Some(call) = self.calls.get_mut(&waiting) else { continue };
            let Some(payload) = call.payload.take() else { continue };
            let effect = Effect::Call {
                runner: peer,
                seat,
                function: call.function.clone(),
                request_id: call.request_id.clone(),
                timeout: call.timeout,
                tail: call.tail,
                payload,
            };
            let function = call.function.clone();
            self.effects.push(effect);
            if let Some(runner) = self.runners.get_mut(&number) {
                runner.idle_since = None;
                if let Some(place) = runner.seats.get_mut(seat) {
                    *place = Seat::Call(waiting);
                }
            }
            self.load(&function, |load| {
                load.queued = load.queued.saturating_sub(1);
                load.running += 1;
            });
        }
    }

    /// Returns a free seat of a group, without those in the list that are not free any more.
    fn free_seat(&mut self, group: &str) -> Option<(u64, usize, Peer)> {
        let of_group = self.groups.get_mut(group)?;
        if of_group.queue.is_empty() {
            return None;
        }
        while let Some(number) = of_group.free.last().copied() {
            let runner = self.runners.get(&number);
            if let Some((seat, peer)) =
                runner.and_then(|each| Some((each.free_seat()?, each.peer?)))
            {
                return Some((number, seat, peer));
            }
            of_group.free.pop();
        }
        None
    }

    fn note_free(&mut self, number: u64) {
        let Some(runner) = self.runners.get(&number) else { return };
        if runner.free_seat().is_none() {
            return;
        }
        if let Some(group) = self.groups.get_mut(&runner.group) {
            if !group.free.contains(&number) {
                group.free.push(number);
            }
        }
    }

    /// Asks for the runners that are missing.
    fn plan(&mut self) {
        if self.is_draining {
            return;
        }
        let mut names: Vec<String> = self.groups.keys().cloned().collect();
        names.sort_unstable();
        for name in names {
            let seats = self
                .functions
                .values()
                .filter(|each| each.spec.group == name)
                .map(|each| each.spec.per_process)
                .max()
                .unwrap_or(1)
                .max(1);
            loop {
                let starting: usize =
                    self.groups.values().map(|each| each.requested + each.starting).sum();
                let asked: usize = self.groups.values().map(|each| each.requested).sum();
                let Some(group) = self.groups.get_mut(&name) else { break };
                let wanted = group.queue.len().div_ceil(seats);
                if group.requested + group.starting >= wanted
                    || starting >= self.settings.starts_max.max(1)
                {
                    break;
                }
                if self.runners.len() + asked >= self.settings.runners_max.max(1) {
                    self.make_room(&name);
                    break;
                }
                group.requested += 1;
                self.effects.push(Effect::Report(EffectReport::Start(name.clone())));
            }
        }
    }

    /// Dismisses the runner of another group that has been idle longest, unless one leaves already.
    fn make_room(&mut self, group: &str) {
        if self.runners.values().any(|each| each.is_dismissed) {
            return;
        }
        let longest = self
            .runners
            .iter()
            .filter(|(_, each)| each.group != group && each.is_idle())
            .min_by_key(|(_, each)| each.idle_since)
            .map(|(number, _)| *number);
        if let Some(number) = longest {
            self.dismiss(number);
        }
    }

    // ---------------------------------------------------------------- ends

    fn dismiss_if_idle(&mut self, number: u64) {
        if self.runners.get(&number).is_some_and(Runner::is_idle) {
            self.dismiss(number);
        }
    }

    fn dismiss(&mut self, number: u64) {
        let Some(runner) = self.runners.get_mut(&number) else { return };
        let Some(peer) = runner.peer else { return };
        runner.is_dismissed = true;
        // WHY first: the supervisor must not take its exit for a death.
        self.effects.push(Effect::Report(EffectReport::Dismissed(number)));
        self.effects.push(Effect::Leave { runner: peer });
    }

    /// Forgets a runner, and fails the calls that were in its seats.
    fn bury(&mut self, number: u64) {
        self.fail_calls(number);
        let Some(runner) = self.runners.remove(&number) else { return };
        if let Some(peer) = runner.peer {
            self.effects.push(Effect::Close { peer });
        }
        if runner.is_starting {
            if let Some(group) = self.groups.get_mut(&runner.group) {
                group.starting = group.starting.saturating_sub(1);
            }
        }
        self.plan();
    }

    /// Fails the calls in a runner's seats.
    fn fail_calls(&mut self, number: u64) {
        let Some(runner) = self.runners.get_mut(&number) else { return };
        let end = runner.end.clone();
        if end.is_none() {
            runner.lost = None; // the word is not awaited any more
        }
        let calls: Vec<(usize, u64)> = runner
            .seats
            .iter_mut()
            .enumerate()
            .filter_map(|(seat, place)| match std::mem::replace(place, Seat::Orphan) {
                Seat::Call(call) => Some((seat, call)),
                _ => None,
            })
            .collect();
        for (seat, call) in calls {
            self.fail(call, end.as_ref(), seat);
        }
    }

    fn fail(&mut self, number: u64, end: Option<&End>, seat: usize) {
        let Some(call) = self.calls.remove(&number) else { return };
        self.load(&call.function, |load| load.running = load.running.saturating_sub(1));
        let answer = Answer::OfFront(died(&call.request_id, end, seat, call.timeout));
        self.answer(call, true, answer);
    }

    /// Refuses a call that waited; it is in no queue any more.
    fn refuse(&mut self, number: u64, why: impl FnOnce(&str) -> Refusal) {
        let Some(call) = self.calls.remove(&number) else { return };
        let refusal = why(&call.function);
        self.load(&call.function, |load| {
            load.queued = load.queued.saturating_sub(1);
            load.throttled += u64::from(refusal.status == 429);
        });
        self.effects.push(Effect::Refuse { caller: call.caller, id: call.id, refusal });
    }

    fn answer(&mut self, call: Call<B>, is_failed: bool, answer: Answer<B>) {
        let Call { caller, id, request_id, .. } = call;
        self.effects.push(Effect::Answer { caller, id, request_id, is_failed, answer });
    }

    fn load(&mut self, function: &str, change: impl FnOnce(&mut Load)) {
        if let Some(function) = self.functions.get_mut(function) {
            change(&mut function.load);
        }
        self.is_load_changed = true;
    }
}

/// Compares in a time that does not depend on where two texts differ.
fn is_equal(ours: &[u8], theirs: &[u8]) -> bool {
    let differs = ours.iter().zip(theirs).fold(0, |all, (one, other)| all | (one ^ other));
    ours.len() == theirs.len() && differs == 0 && !ours.is_empty()
}

#[cfg(test)]
mod tests;
