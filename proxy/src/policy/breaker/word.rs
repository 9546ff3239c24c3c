//! The state of a breaker in one word, so that it changes as a whole or not at all.
//!
//! From the top: state (2 bits), step of the open time (6), generation (16), and 40 bits whose meaning
//! depends on the state. Open: the millisecond at which it ends. Closed: the millisecond at which it
//! closed. Half-open: probes let through (20) and probes that were good (20). Milliseconds since the epoch
//! fit for 34 years.
//!
//! The generation counts changes of state. It comes round after 65,536 of them; a verdict that is late by
//! exactly that many would be taken for one of now, and would do no more harm than that.

/// What a breaker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It lets everything through.
    Closed,
    /// It lets probes through.
    HalfOpen,
    /// It lets nothing through.
    Open,
}

impl State {
    /// The `to` label of `circuit_transitions_total`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// The value of `circuit_state`.
    #[must_use]
    pub const fn gauge(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// Closed since ever.
    pub(super) const INITIAL: Self = Self(0);
    /// Most probes that can be counted.
    pub(super) const MAX_PROBES: u32 = (1 << 20) - 1;
    /// Most doublings: 2^40 ms are beyond every maximum.
    pub(super) const MAX_STEP: u32 = 40;

    const LOW: u64 = (1 << 40) - 1;

    fn new(state: State, step: u32, generation: u16, low: u64) -> Self {
        let step = u64::from(step.min(Self::MAX_STEP));
        Self(u64::from(state.gauge()) << 62 | step << 56 | u64::from(generation) << 40 | low.min(Self::LOW))
    }

    pub(super) fn state(self) -> State {
        match self.0 >> 62 {
            0 => State::Closed,
            1 => State::HalfOpen,
            _ => State::Open,
        }
    }

    pub(super) fn step(self) -> u32 {
        (self.0 >> 56) as u32 & 0x3f
    }

    pub(super) fn generation(self) -> u16 {
        (self.0 >> 40) as u16
    }

    /// Of an open one its end, of a closed one its beginning.
    pub(super) fn millis(self) -> u64 {
        self.0 & Self::LOW
    }

    /// Probes let through and not given back.
    pub(super) fn admitted(self) -> u32 {
        (self.0 >> 20) as u32 & Self::MAX_PROBES
    }

    /// Probes that were good.
    pub(super) fn succeeded(self) -> u32 {
        self.0 as u32 & Self::MAX_PROBES
    }

    pub(super) fn open(self, step: u32, until: u64) -> Self {
        Self::new(State::Open, step, self.generation().wrapping_add(1), until)
    }

    /// Half-open, with one probe out.
    pub(super) fn half_open(self) -> Self {
        Self::new(State::HalfOpen, self.step(), self.generation().wrapping_add(1), 1 << 20)
    }

    pub(super) fn close(self, now: u64) -> Self {
        Self::new(State::Closed, self.step(), self.generation().wrapping_add(1), now)
    }

    pub(super) fn one_more(self) -> Self {
        Self(self.0 + (1 << 20))
    }

    pub(super) fn one_less(self) -> Self {
        Self(self.0 - (1 << 20))
    }

    pub(super) fn one_good(self) -> Self {
        Self(self.0 + 1)
    }
}
