//! Signal sets, actions and pending queues as plain data. Pure; host-tested.
//!
//! Locking is `signal`'s business.

use alloc::collections::VecDeque;

use super::siginfo::{SigFields, SigInfo};
use crate::abi;
use crate::mm::UserAddr;

/// Signals are numbered 1 to this.
pub const NSIG: u32 = 64;
/// Default action: the handler value SIG_DFL.
pub const SIG_DFL: u64 = 0;
/// Ignore: the handler value SIG_IGN.
pub const SIG_IGN: u64 = 1;

/// A set of signals, bit n-1 for signal n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SigSet(pub u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: SigSet = SigSet(0);
    /// Every signal.
    pub const ALL: SigSet = SigSet(!0);
    /// What no program can block, catch or ignore.
    pub const UNBLOCKABLE: SigSet = SigSet(bit(abi::SIGKILL) | bit(abi::SIGSTOP));
    /// Signals whose default action stops.
    pub const STOP: SigSet =
        SigSet(bit(abi::SIGSTOP) | bit(abi::SIGTSTP) | bit(abi::SIGTTIN) | bit(abi::SIGTTOU));
    /// Signals that the program's own instruction causes.
    pub const SYNCHRONOUS: SigSet = SigSet(
        bit(abi::SIGSEGV)
            | bit(abi::SIGBUS)
            | bit(abi::SIGILL)
            | bit(abi::SIGTRAP)
            | bit(abi::SIGFPE)
            | bit(abi::SIGSYS),
    );

    /// The set of `sig` alone.
    pub const fn of(sig: u32) -> SigSet {
        SigSet(bit(sig))
    }
    /// Whether `sig` is in.
    pub const fn has(self, sig: u32) -> bool {
        self.0 & bit(sig) != 0
    }
    /// Union.
    pub const fn with(self, other: SigSet) -> SigSet {
        SigSet(self.0 | other.0)
    }
    /// Difference.
    pub const fn without(self, other: SigSet) -> SigSet {
        SigSet(self.0 & !other.0)
    }
    /// Intersection.
    pub const fn and(self, other: SigSet) -> SigSet {
        SigSet(self.0 & other.0)
    }
    /// Whether no signal is in.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// What a program may block: all but SIGKILL and SIGSTOP.
    pub const fn blockable(self) -> SigSet {
        self.without(SigSet::UNBLOCKABLE)
    }
    /// The signal to take first: synchronous ones, then the lowest number.
    pub const fn first(self) -> Option<u32> {
        let sync = self.and(SigSet::SYNCHRONOUS);
        let set = if sync.is_empty() { self } else { sync };
        if set.is_empty() {
            None
        } else {
            Some(set.0.trailing_zeros() + 1)
        }
    }
}

const fn bit(sig: u32) -> u64 {
    if sig == 0 || sig > NSIG {
        0
    } else {
        1 << (sig - 1)
    }
}

/// What happens with a signal that has no handler (man 7 signal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// The process ends.
    Terminate,
    /// The process ends and would leave a core file.
    Core,
    /// Nothing.
    Ignore,
    /// All threads stop.
    Stop,
    /// Stopped threads go on.
    Continue,
}

/// The default action of `sig`.
pub const fn default_action(sig: u32) -> DefaultAction {
    match sig {
        abi::SIGCHLD | abi::SIGURG | abi::SIGWINCH => DefaultAction::Ignore,
        abi::SIGCONT => DefaultAction::Continue,
        abi::SIGSTOP | abi::SIGTSTP | abi::SIGTTIN | abi::SIGTTOU => DefaultAction::Stop,
        abi::SIGQUIT
        | abi::SIGILL
        | abi::SIGTRAP
        | abi::SIGABRT
        | abi::SIGBUS
        | abi::SIGFPE
        | abi::SIGSEGV
        | abi::SIGXCPU
        | abi::SIGXFSZ
        | abi::SIGSYS => DefaultAction::Core,
        _ => DefaultAction::Terminate,
    }
}

/// What a program asked for with sigaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Action {
    /// Handler address, [`SIG_DFL`] or [`SIG_IGN`].
    pub handler: u64,
    /// SA_*.
    pub flags: u64,
    /// Return trampoline.
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: SigSet,
}

/// The 64 actions of a process.
#[derive(Clone)]
pub struct Actions {
    table: [Action; NSIG as usize],
}

impl Default for Actions {
    fn default() -> Self {
        Self::new()
    }
}

impl Actions {
    /// All default.
    pub const fn new() -> Self {
        Self {
            table: [Action {
                handler: SIG_DFL,
                flags: 0,
                restorer: 0,
                mask: SigSet::EMPTY,
            }; NSIG as usize],
        }
    }
    /// The action for `sig`; the default one for a number out of range.
    pub fn get(&self, sig: u32) -> Action {
        self.table
            .get((sig as usize).wrapping_sub(1))
            .copied()
            .unwrap_or_default()
    }
    /// Replaces the action for `sig`.
    pub fn set(&mut self, sig: u32, action: Action) {
        if let Some(slot) = self.table.get_mut((sig as usize).wrapping_sub(1)) {
            *slot = action;
        }
    }
    /// Whether `sig` would be dropped: ignored, or default with nothing to do.
    pub fn ignores(&self, sig: u32) -> bool {
        let handler = self.get(sig).handler;
        handler == SIG_IGN
            || handler == SIG_DFL
                && matches!(
                    default_action(sig),
                    DefaultAction::Ignore | DefaultAction::Continue
                )
    }
    /// Whether a handler is installed for `sig`.
    pub fn catches(&self, sig: u32) -> bool {
        self.get(sig).handler > SIG_IGN
    }
    /// What execve leaves: handlers become default, ignored stay ignored.
    pub fn reset_for_exec(&mut self) {
        for action in &mut self.table {
            let handler = if action.handler == SIG_IGN {
                SIG_IGN
            } else {
                SIG_DFL
            };
            *action = Action {
                handler,
                ..Action::default()
            };
        }
    }
    /// What CLONE_CLEAR_SIGHAND leaves: the same.
    pub fn reset_for_clear_sighand(&mut self) {
        self.reset_for_exec();
    }
    /// (ignored, caught) for /proc.
    pub fn sets(&self) -> (SigSet, SigSet) {
        let mut ignored = 0;
        let mut caught = 0;
        for (i, action) in self.table.iter().enumerate() {
            match action.handler {
                SIG_DFL => {}
                SIG_IGN => ignored |= 1 << i,
                _ => caught |= 1 << i,
            }
        }
        (SigSet(ignored), SigSet(caught))
    }
}

/// Signals that wait to be taken: one of each standard signal, real-time ones queued.
#[derive(Default)]
pub struct Pending {
    set: SigSet,
    queue: VecDeque<SigInfo>,
}

impl Pending {
    /// Nothing pending.
    pub const fn new() -> Self {
        Self {
            set: SigSet::EMPTY,
            queue: VecDeque::new(),
        }
    }
    /// Which signals are pending.
    pub fn set(&self) -> SigSet {
        self.set
    }
    /// How many are queued with information.
    pub fn len(&self) -> usize {
        self.queue.len()
    }
    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }
    /// Adds a signal. False when a standard signal was pending already (it is dropped).
    /// Without memory for the information the signal itself still stays pending, which a
    /// real-time sender learns beforehand through [`Pending::reserve`].
    pub fn add(&mut self, info: SigInfo) -> bool {
        if info.signo == 0 || info.signo > NSIG {
            return false;
        }
        // Each timer has a place of its own.
        let is_timer = matches!(info.fields, SigFields::Timer { .. });
        if info.signo < abi::SIGRTMIN && !is_timer && self.set.has(info.signo) {
            return false;
        }
        self.set = self.set.with(SigSet::of(info.signo));
        if self.reserve() {
            self.queue.push_back(info);
        }
        true
    }
    /// The signal is pending, if it is not yet, without information.
    pub fn add_bare(&mut self, sig: u32) {
        self.set = self.set.with(SigSet::of(sig));
    }
    /// Makes room for one more; false when memory ran out.
    pub fn reserve(&mut self) -> bool {
        self.queue.try_reserve(1).is_ok()
    }
    /// Takes the first signal that is in `wanted`.
    pub fn take(&mut self, wanted: SigSet) -> Option<SigInfo> {
        let sig = self.set.and(wanted).first()?;
        let mut queued = self.queue.iter().enumerate();
        let mut of_sig = || queued.find(|(_, info)| info.signo == sig).map(|(i, _)| i);
        let found = of_sig();
        let more = found.is_some() && of_sig().is_some();
        if !more {
            self.set = self.set.without(SigSet::of(sig));
        }
        let info = match found {
            Some(0) => self.queue.pop_front(),
            Some(i) => self.queue.remove(i),
            None => None,
        };
        // Information lost for want of memory: the signal arrives as from nobody.
        Some(info.unwrap_or(SigInfo::user(sig, 0, 0)))
    }
    /// Whether a signal of POSIX timer `id` is pending.
    pub fn has_timer(&self, id: i32) -> bool {
        self.queue.iter().any(|info| info.is_of_timer(Some(id)))
    }
    /// Drops pending signals of POSIX timer `id`, or of all of them.
    pub fn discard_timers(&mut self, id: Option<i32>) {
        if !self.queue.iter().any(|info| info.is_of_timer(id)) {
            return;
        }
        self.queue.retain(|info| {
            let dropped = info.is_of_timer(id);
            if dropped {
                self.set = self.set.without(SigSet::of(info.signo));
            }
            !dropped
        });
        for info in &self.queue {
            self.set = self.set.with(SigSet::of(info.signo));
        }
    }
    /// Drops all pending signals of `sigs`.
    pub fn discard(&mut self, sigs: SigSet) {
        if !self.set.and(sigs).is_empty() {
            self.set = self.set.without(sigs);
            self.queue.retain(|info| !sigs.has(info.signo));
        }
    }
}

/// The alternate signal stack (man 2 sigaltstack).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltStack {
    /// Lowest byte.
    pub base: UserAddr,
    /// Bytes.
    pub size: u64,
    /// SS_AUTODISARM or SS_DISABLE.
    pub flags: u32,
}

/// The stack is not set.
pub const SS_DISABLE: u32 = 2;
/// A handler runs on the stack.
pub const SS_ONSTACK: u32 = 1;
/// Disarm while a handler runs on it.
pub const SS_AUTODISARM: u32 = 1 << 31;
/// Smallest stack sigaltstack accepts, in bytes (x86_64 MINSIGSTKSZ).
pub const MINSIGSTKSZ: u64 = 2048;

impl AltStack {
    /// None set.
    pub const DISABLED: AltStack = AltStack {
        base: UserAddr(0),
        size: 0,
        flags: SS_DISABLE,
    };
    /// Whether `sp` lies on the stack. With SS_AUTODISARM a handler never counts as on it.
    pub fn contains(&self, sp: u64) -> bool {
        self.flags & (SS_AUTODISARM | SS_DISABLE) == 0
            && sp > self.base.0
            && sp - self.base.0 <= self.size
    }
    /// What sigaltstack reports in `ss_flags` when the stack pointer is `sp`.
    pub fn flags_at(&self, sp: u64) -> u32 {
        if self.size == 0 {
            SS_DISABLE
        } else if self.contains(sp) {
            SS_ONSTACK
        } else {
            self.flags & SS_AUTODISARM
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_signals_do_not_queue() {
        let mut p = Pending::new();
        assert!(p.add(SigInfo::user(abi::SIGUSR1, 1, 1)));
        assert!(!p.add(SigInfo::user(abi::SIGUSR1, 2, 2)));
        let got = p.take(SigSet::ALL).unwrap();
        assert_eq!(got.pid(), 1);
        assert!(p.is_empty());
        assert!(p.take(SigSet::ALL).is_none());
    }

    #[test]
    fn each_timer_queues_its_own() {
        let of = |id| {
            let fields = SigFields::Timer {
                id,
                overrun: 0,
                value: 0,
            };
            SigInfo::with(abi::SIGALRM, -2, fields)
        };
        let mut p = Pending::new();
        assert!(p.add(of(1)) && p.add(of(2)) && p.add(SigInfo::user(40, 1, 0)));
        assert!(p.has_timer(2) && !p.has_timer(3));
        p.discard_timers(Some(1));
        assert!(!p.has_timer(1) && p.set().has(abi::SIGALRM));
        p.discard_timers(None);
        assert!(!p.set().has(abi::SIGALRM) && p.set().has(40));
        p.add_bare(40);
        assert_eq!(p.len(), 1);
    }

    #[test]
    fn realtime_signals_queue_in_order() {
        let mut p = Pending::new();
        for pid in 1..=3 {
            assert!(p.add(SigInfo::user(40, pid, 0)));
        }
        p.add(SigInfo::user(35, 9, 0));
        assert_eq!(p.take(SigSet::ALL).unwrap().signo, 35);
        for pid in 1..=3 {
            assert!(p.set().has(40));
            assert_eq!(p.take(SigSet::ALL).unwrap().pid(), pid);
        }
        assert!(p.is_empty());
    }

    #[test]
    fn synchronous_first_then_lowest() {
        let set = SigSet::of(abi::SIGHUP).with(SigSet::of(abi::SIGSEGV));
        assert_eq!(set.first(), Some(abi::SIGSEGV));
        assert_eq!(SigSet::of(64).with(SigSet::of(3)).first(), Some(3));
        assert_eq!(SigSet::of(64).first(), Some(64));
        assert_eq!(SigSet::EMPTY.first(), None);
    }

    #[test]
    fn discard_drops_queued() {
        let mut p = Pending::new();
        p.add(SigInfo::kernel(abi::SIGTSTP));
        p.add(SigInfo::kernel(abi::SIGCONT));
        p.discard(SigSet::STOP);
        assert_eq!(p.len(), 1);
        assert!(!p.set().has(abi::SIGTSTP));
    }

    #[test]
    fn exec_keeps_only_ignored() {
        let mut a = Actions::new();
        a.set(
            2,
            Action {
                handler: SIG_IGN,
                ..Action::default()
            },
        );
        a.set(
            3,
            Action {
                handler: 0x4000,
                flags: 4,
                restorer: 1,
                mask: SigSet::ALL,
            },
        );
        assert_eq!(a.sets(), (SigSet::of(2), SigSet::of(3)));
        a.reset_for_exec();
        assert_eq!(a.get(3), Action::default());
        assert_eq!(a.get(2).handler, SIG_IGN);
        assert!(a.ignores(abi::SIGCHLD) && a.ignores(abi::SIGCONT));
        assert!(!a.ignores(abi::SIGTERM));
    }

    #[test]
    fn altstack_bounds() {
        let s = AltStack {
            base: UserAddr(0x1000),
            size: 0x2000,
            flags: 0,
        };
        assert!(!s.contains(0x1000));
        assert!(s.contains(0x1001) && s.contains(0x3000));
        assert!(!s.contains(0x3001));
        assert_eq!(s.flags_at(0x2000), SS_ONSTACK);
        assert_eq!(AltStack::DISABLED.flags_at(0), SS_DISABLE);
    }
}
