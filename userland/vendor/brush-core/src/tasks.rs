//! Shell code that runs beside the main shell: in a pipeline or in the background.
//!
//! Such code runs on a thread of its own (from tokio's pool for blocking work), because its
//! reads and writes block: the commands at the two ends of a pipe must both make progress.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};

use crate::traps::TrapSignal;
use crate::{ExecutionParameters, ExecutionResult, Shell, error, extensions, sys};

/// Set when SIGINT asks the shell's own code to stop; see [`request_interrupt`].
static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Asks all running shell code, other than background jobs, to unwind. Async-signal-safe.
/// In force until [`take_interrupt`].
pub fn request_interrupt() {
    INTERRUPT.store(true, Ordering::SeqCst);
    signal_event(&INTERRUPT_EVENT);
    wake();
}

/// Ends the effect of [`request_interrupt`]; returns whether there was one.
pub fn take_interrupt() -> bool {
    clear_interrupt_event();
    INTERRUPT.swap(false, Ordering::SeqCst)
}

/// Whether [`request_interrupt`] is in force.
pub fn is_interrupted() -> bool {
    INTERRUPT.load(Ordering::SeqCst)
}

/// An eventfd that is readable while [`INTERRUPT`] is set, for who waits in `poll`; -1 until
/// someone does.
static INTERRUPT_EVENT: AtomicI32 = AtomicI32::new(-1);

/// The eventfd behind [`request_interrupt`]. Who finds it readable looks at [`is_interrupted`],
/// and if that says no calls [`clear_interrupt_event`] before waiting again.
pub(crate) fn interrupt_event() -> std::io::Result<BorrowedFd<'static>> {
    let event = event(&INTERRUPT_EVENT)?;
    if is_interrupted() {
        // It may have been asked for before there was an event.
        signal_event(&INTERRUPT_EVENT);
    }
    Ok(event)
}

/// Makes the event of [`interrupt_event`] unreadable.
pub(crate) fn clear_interrupt_event() {
    let fd = INTERRUPT_EVENT.load(Ordering::SeqCst);
    if fd >= 0 {
        clear_event(fd);
    }
}

/// Twice the number of commands in the foreground that the shell is waiting for, plus
/// [`CAME_WHILE_WAITING`]: one word, so that the handler sees both as they belong together.
static WAITING: AtomicU32 = AtomicU32::new(0);

/// In [`WAITING`]: SIGINT came since the first of those waits began.
const CAME_WHILE_WAITING: u32 = 1;

/// In [`WAITING`]: one command that is waited for.
const ONE_WAIT: u32 = 2;

/// Whether the shell has an EXIT trap, which is to run before SIGINT ends it.
static EXIT_TRAP: AtomicBool = AtomicBool::new(false);

/// What SIGINT does to a shell that runs a script. The shell ends as a process without a handler
/// would; but while it waits for a command, that command decides: an editor or a pager makes
/// something else of the signal. Async-signal-safe.
extern "C" fn on_interrupt(_: i32) {
    if is_forked() {
        end_by(Signal::SIGINT);
    } else if WAITING
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |waiting| {
            (waiting >= ONE_WAIT).then_some(waiting | CAME_WHILE_WAITING)
        })
        .is_ok()
    {
        // The wait has heard of it.
    } else if EXIT_TRAP.load(Ordering::SeqCst) {
        request_interrupt();
    } else {
        end_by_interrupt();
    }
}

/// The process that the handlers are for.
static SHELL: AtomicI32 = AtomicI32::new(0);

/// Whether this is a command between fork and exec. Until exec it has the shell's handlers, but
/// the signal is the command's. Async-signal-safe.
fn is_forked() -> bool {
    nix::unistd::getpid().as_raw() != SHELL.load(Ordering::SeqCst)
}

/// Ends the process as SIGINT ends one: whoever started the shell is to know that the user
/// interrupted it. Async-signal-safe; within a handler for SIGINT it takes effect on return.
pub fn end_by_interrupt() {
    end_by(Signal::SIGINT);
}

fn end_by(signal: Signal) {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of this process.
    if unsafe { nix::sys::signal::sigaction(signal, &default) }.is_ok() {
        let _ = nix::sys::signal::raise(signal);
    }
}

/// Has SIGINT end a shell that is not interactive as it should; for the start, before any trap is
/// set. A shell that was started with the signal ignored goes on ignoring it.
pub fn end_on_interrupt() {
    // Without SA_RESTART: a builtin that waits in a read is to hear of it.
    let action = SigAction::new(
        SigHandler::Handler(on_interrupt),
        SaFlags::empty(),
        SigSet::empty(),
    );
    SHELL.store(nix::unistd::getpid().as_raw(), Ordering::SeqCst);
    // SAFETY: the handler is async-signal-safe.
    let before = unsafe { nix::sys::signal::sigaction(Signal::SIGINT, &action) };
    if let Ok(before) = before
        && matches!(before.handler(), SigHandler::SigIgn)
    {
        // SAFETY: as it was.
        let _ = unsafe { nix::sys::signal::sigaction(Signal::SIGINT, &before) };
    }
}

/// Tells whether the main shell has an EXIT trap.
pub fn set_exit_trap(present: bool) {
    EXIT_TRAP.store(present, Ordering::SeqCst);
}

/// The shell waits for a command in the foreground, for as long as this lives.
pub(crate) struct Waiting;

impl Waiting {
    /// Begins to wait for the process `pid`, which has been started.
    pub(crate) fn begin(pid: sys::process::ProcessId) -> Self {
        let _ = WAITING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |waiting| {
            Some(if waiting < ONE_WAIT {
                ONE_WAIT
            } else {
                waiting + ONE_WAIT
            })
        });
        // A SIGINT from before the process was there went to the shell alone, which had looked for
        // one already. (If it came later the process has it twice.)
        if is_interrupted() {
            let interrupt = TrapSignal::Signal(sys::signal::Signal::SIGINT);
            // It may be gone already.
            let _ = sys::signal::kill_process(pid, interrupt);
        }
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(ONE_WAIT, Ordering::SeqCst);
    }
}

/// Set when SIGINT came to the shell and ended the command that it was waiting for.
static SHARED_INTERRUPT: AtomicBool = AtomicBool::new(false);

/// SIGINT has ended a child: sees whether it came to the shell too. It may be on its way still, as
/// a terminal sends it to one process after the other.
pub(crate) fn note_interrupted_child() {
    for _ in 0..10 {
        let waiting = WAITING.load(Ordering::SeqCst);
        if waiting < ONE_WAIT {
            return;
        }
        if waiting & CAME_WHILE_WAITING != 0 {
            SHARED_INTERRUPT.store(true, Ordering::SeqCst);
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Whether SIGINT came to the shell and to the command it was waiting for, since this was last
/// asked.
pub(crate) fn take_shared_interrupt() -> bool {
    SHARED_INTERRUPT.swap(false, Ordering::SeqCst)
}

/// An eventfd that signal handlers write to, so that who waits for something else wakes up; -1
/// until someone does.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Async-signal-safe.
fn wake() {
    signal_event(&WAKE);
}

/// A descriptor of its own for the eventfd behind [`WAKE`].
fn wake_descriptor() -> std::io::Result<OwnedFd> {
    event(&WAKE)?.try_clone_to_owned()
}

/// Makes the eventfd in `event` readable, if it is there. Async-signal-safe.
fn signal_event(event: &AtomicI32) {
    let fd = event.load(Ordering::SeqCst);
    if fd >= 0 {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the bytes live across the call; the descriptor is never closed.
        let _ = unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
    }
}

/// Makes the eventfd `fd` unreadable.
fn clear_event(fd: i32) {
    let mut count = 0u64.to_ne_bytes();
    // SAFETY: the buffer is as long as said, and lives across the call.
    let _ = unsafe { libc::read(fd, count.as_mut_ptr().cast(), count.len()) };
}

/// The eventfd in `event`, made by whoever asks first.
fn event(event: &'static AtomicI32) -> std::io::Result<BorrowedFd<'static>> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if event.load(Ordering::SeqCst) < 0 {
        // SAFETY: no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        event.store(fd, Ordering::SeqCst);
    }
    // SAFETY: the descriptor is never closed.
    Ok(unsafe { BorrowedFd::borrow_raw(event.load(Ordering::SeqCst)) })
}

/// Ids of background jobs that are no processes start here: above any process id of Linux
/// (`PID_MAX_LIMIT` is 4194304).
const FIRST_ID: i32 = 1 << 23;

static NEXT_ID: AtomicI32 = AtomicI32::new(FIRST_ID);

/// What a background job and those who signal it share.
#[derive(Debug)]
pub struct TaskControl {
    id: i32,
    /// The signal that asked the job to end; 0 for none.
    signal: AtomicI32,
    /// Processes that the job is waiting for.
    children: Mutex<Vec<sys::process::ProcessId>>,
}

impl TaskControl {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            signal: AtomicI32::new(0),
            children: Mutex::new(Vec::new()),
        })
    }

    /// The id under which users know the job when it is no process.
    pub const fn id(&self) -> i32 {
        self.id
    }

    pub(crate) fn add_child(&self, pid: sys::process::ProcessId) {
        self.lock_children().push(pid);
    }

    pub(crate) fn remove_child(&self, pid: sys::process::ProcessId) {
        self.lock_children().retain(|p| *p != pid);
    }

    fn lock_children(&self) -> std::sync::MutexGuard<'_, Vec<sys::process::ProcessId>> {
        // Nothing can panic while it is held.
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `signal` to the job's processes; its shell code ends at the next command, unless
    /// the signal is one that by default does not end a process.
    pub fn signal(&self, signal: sys::signal::Signal) {
        use sys::signal::Signal as S;
        let ends = !matches!(
            signal,
            S::SIGCHLD | S::SIGCONT | S::SIGURG | S::SIGWINCH | S::SIGSTOP | S::SIGTSTP
        );
        if ends {
            self.signal.store(signal as i32, Ordering::Relaxed);
        }
        for pid in self.lock_children().iter() {
            // It may be gone already.
            let _ = sys::signal::kill_process(*pid, TrapSignal::Signal(signal));
        }
    }
}

/// Signals that have arrived and whose traps have not run yet, one bit each.
static PENDING: AtomicU64 = AtomicU64::new(0);

/// What the signals with traps did before.
static ORIGINAL: Mutex<Vec<(Signal, SigAction)>> = Mutex::new(Vec::new());

extern "C" fn note_signal(number: i32) {
    if is_forked() {
        return Signal::try_from(number).map_or((), end_by);
    }
    // Numbers of signals that can be trapped are below 32.
    if let Some(bit) = u32::try_from(number).ok().and_then(|n| 1u64.checked_shl(n)) {
        PENDING.fetch_or(bit, Ordering::SeqCst);
        wake();
    }
}

/// Has `signal` noted for its trap, or ignored for an empty one. Fails for the signals that cannot
/// be caught.
pub fn watch_signal(signal: Signal, ignore: bool) -> Result<(), error::Error> {
    let handler = if ignore {
        SigHandler::SigIgn
    } else {
        SigHandler::Handler(note_signal)
    };
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    SHELL.store(nix::unistd::getpid().as_raw(), Ordering::SeqCst);
    // SAFETY: the handler only sets a bit in an atomic, so it is async-signal-safe.
    let before = unsafe { nix::sys::signal::sigaction(signal, &action) }?;
    let mut original = ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner);
    if !original.iter().any(|(s, _)| *s == signal) {
        // What whoever started the shell had ignored (`nohup`) stays ignored. SIGPIPE is ignored
        // by the runtime, and the job-control signals by an interactive shell itself.
        let own = [
            Signal::SIGPIPE,
            Signal::SIGTTOU,
            Signal::SIGTTIN,
            Signal::SIGTSTP,
        ];
        if matches!(before.handler(), SigHandler::SigIgn) && !own.contains(&signal) {
            // SAFETY: as it was.
            unsafe { nix::sys::signal::sigaction(signal, &before) }?;
            return Ok(());
        }
        original.push((signal, before));
    }
    Ok(())
}

/// Puts back what `signal` did before its trap was set.
pub fn unwatch_signal(signal: Signal) -> Result<(), error::Error> {
    let mut original = ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(at) = original.iter().position(|(s, _)| *s == signal) {
        let (_, action) = original.remove(at);
        // SAFETY: this handler was installed before.
        unsafe { nix::sys::signal::sigaction(signal, &action) }?;
    }
    Ok(())
}

/// The pending signals; none are pending afterwards.
fn take_pending() -> Vec<Signal> {
    if PENDING.load(Ordering::SeqCst) == 0 {
        return Vec::new();
    }
    let bits = PENDING.swap(0, Ordering::SeqCst);
    Signal::iterator()
        .filter(|signal| bits & (1 << (*signal as i32)) != 0)
        .collect()
}

impl<SE: extensions::ShellExtensions> Shell<SE> {
    /// Runs the traps of the signals that have arrived. The result is one that the running code
    /// must return, when a trap exits.
    pub(crate) async fn run_pending_traps(
        &mut self,
        params: &ExecutionParameters,
    ) -> Option<ExecutionResult> {
        if self.is_subshell() {
            return None;
        }
        for signal in take_pending() {
            let trap = TrapSignal::Signal(signal);
            let result = self.invoke_trap_handler(trap, params).await;
            if let Ok(result) = result
                && result.is_return_or_exit()
            {
                return Some(result);
            }
        }
        None
    }

    /// Completes when one of `signals`, which have traps, arrives, or when the running code is to
    /// unwind; with the signal's number.
    pub async fn trapped_signal(signals: Vec<Signal>) -> i32 {
        let wanted = signals.iter().fold(0u64, |bits, s| bits | 1 << (*s as i32));
        let Ok(events) = wake_descriptor() else {
            return std::future::pending().await;
        };
        // SAFETY: an `OwnedFd` stays open, and the same, for as long as it lives.
        let Ok(events) = (unsafe { tokio::io::unix::AsyncFd::register(events) }) else {
            return std::future::pending().await;
        };
        loop {
            if is_interrupted() {
                return Signal::SIGINT as i32;
            }
            let arrived = PENDING.load(Ordering::SeqCst) & wanted;
            if arrived != 0 {
                return i32::try_from(arrived.trailing_zeros()).unwrap_or_default();
            }
            let Ok(mut ready) = events.readable().await else {
                return std::future::pending().await;
            };
            clear_event(events.as_raw_fd());
            ready.clear_ready();
        }
    }

    /// The signals that have a trap, other than to be ignored.
    pub fn trapped_signals(&self) -> Vec<Signal> {
        self.traps()
            .iter_handlers()
            .filter_map(|(signal, handler)| match signal {
                TrapSignal::Signal(signal) if !handler.command.is_empty() => Some(signal),
                _ => None,
            })
            .collect()
    }

    /// Whether the shell has a trap for SIGINT, or ignores it.
    pub(crate) fn handles_interrupt(&self) -> bool {
        let interrupt = TrapSignal::Signal(sys::signal::Signal::SIGINT);
        self.traps()
            .iter_handlers()
            .any(|(signal, _)| signal == interrupt)
    }

    /// Whether the code of this shell has been asked to stop; if so, the result with which it is
    /// to unwind.
    pub(crate) fn interruption(&self) -> Option<ExecutionResult> {
        let signal = match &self.control {
            Some(control) => control.signal.load(Ordering::Relaxed),
            None if is_interrupted() => sys::signal::Signal::SIGINT as i32,
            None => 0,
        };
        if signal == 0 {
            return None;
        }
        let mut result = ExecutionResult::new(u8::try_from(128 + signal).unwrap_or(u8::MAX));
        result.next_control_flow = crate::ExecutionControlFlow::ExitShell;
        Some(result)
    }

    /// A copy of this shell for a subshell: with everything but the traps, which are the
    /// parent's to run.
    pub(crate) fn subshell(&self) -> Self {
        let mut subshell = self.clone();
        if subshell.traps().iter_handlers().next().is_some() {
            subshell.traps_mut().remove_handlers(TrapSignal::Exit);
            for signal in self.trapped_signals() {
                subshell
                    .traps_mut()
                    .remove_handlers(TrapSignal::Signal(signal));
            }
        }
        subshell
    }

    /// Ends a subshell, whose status is that of its last command: runs its EXIT trap, and gives
    /// back what it changed of the process.
    pub(crate) async fn end_subshell(&mut self, params: &ExecutionParameters) {
        if self.traps().handles(TrapSignal::Exit) {
            let result = self.invoke_trap_handler(TrapSignal::Exit, params).await;
            if let Ok(result) = result
                && result.is_return_or_exit()
            {
                self.set_last_exit_status(result.exit_code.into());
            }
        }
        if let Some(mask) = self.umask_before.take() {
            sys::process::set_umask(mask);
        }
    }
}

/// Runs `work` in `shell`, a subshell, on a thread of its own. Errors are displayed there; what
/// comes back is an exit status.
pub(crate) fn spawn<SE, F>(
    mut shell: Shell<SE>,
    params: ExecutionParameters,
    work: F,
) -> tokio::task::JoinHandle<Result<ExecutionResult, error::Error>>
where
    SE: extensions::ShellExtensions,
    F: AsyncFnOnce(&mut Shell<SE>, &ExecutionParameters) -> Result<ExecutionResult, error::Error>
        + Send
        + 'static,
{
    tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(async move {
            let result = match work(&mut shell, &params).await {
                Ok(result) => result,
                Err(err) => {
                    let _ = shell.display_error(&mut params.stderr(&shell), &err);
                    err.into_result(&shell)
                }
            };
            shell.set_last_exit_status(result.exit_code.into());
            shell.end_subshell(&params).await;
            Ok(ExecutionResult::new(shell.last_exit_status()))
        })
    })
}
