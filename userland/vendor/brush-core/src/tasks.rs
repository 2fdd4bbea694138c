//! Shell code that runs beside the main shell: in a pipeline or in the background.
//!
//! Such code runs on a thread of its own (from tokio's pool for blocking work), because its
//! reads and writes block: the commands at the two ends of a pipe must both make progress.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};

use crate::traps::TrapSignal;
use crate::{ExecutionParameters, ExecutionResult, Shell, error, extensions, sys};

/// Set when SIGINT asks the shell's own code to stop; see [`request_interrupt`].
static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Asks all running shell code, other than background jobs, to unwind. Async-signal-safe.
/// In force until [`take_interrupt`].
pub fn request_interrupt() {
    INTERRUPT.store(true, Ordering::Relaxed);
}

/// Ends the effect of [`request_interrupt`]; returns whether there was one.
pub fn take_interrupt() -> bool {
    INTERRUPT.swap(false, Ordering::Relaxed)
}

/// Set when SIGINT came to the shell and ended the command that it was waiting for.
static SHARED_INTERRUPT: AtomicBool = AtomicBool::new(false);

/// SIGINT came to the shell and ended the command that it was waiting for.
pub(crate) fn note_shared_interrupt() {
    SHARED_INTERRUPT.store(true, Ordering::Relaxed);
}

/// Whether [`note_shared_interrupt`] was called since this was last asked.
pub(crate) fn take_shared_interrupt() -> bool {
    SHARED_INTERRUPT.swap(false, Ordering::Relaxed)
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
    // Numbers of signals that can be trapped are below 32.
    if let Some(bit) = u32::try_from(number).ok().and_then(|n| 1u64.checked_shl(n)) {
        PENDING.fetch_or(bit, Ordering::Relaxed);
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
    // SAFETY: the handler only sets a bit in an atomic, so it is async-signal-safe.
    let before = unsafe { nix::sys::signal::sigaction(signal, &action) }?;
    let mut original = ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner);
    if !original.iter().any(|(s, _)| *s == signal) {
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
    if PENDING.load(Ordering::Relaxed) == 0 {
        return Vec::new();
    }
    let bits = PENDING.swap(0, Ordering::Relaxed);
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

    /// Completes when a signal that has a trap arrives, with the signal's number.
    pub async fn trapped_signal(traps: Vec<Signal>) -> i32 {
        let mut waits = Vec::new();
        for signal in traps {
            let kind = tokio::signal::unix::SignalKind::from_raw(signal as i32);
            if let Ok(mut listener) = tokio::signal::unix::signal(kind) {
                waits.push(Box::pin(async move {
                    listener.recv().await;
                    signal as i32
                }));
            }
        }
        if waits.is_empty() {
            std::future::pending::<()>().await;
        }
        futures::future::select_all(waits).await.0
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
        self.traps().iter_handlers().any(|(signal, _)| signal == interrupt)
    }

    /// Whether the code of this shell has been asked to stop; if so, the result with which it is
    /// to unwind.
    pub(crate) fn interruption(&self) -> Option<ExecutionResult> {
        let signal = match &self.control {
            Some(control) => control.signal.load(Ordering::Relaxed),
            None if INTERRUPT.load(Ordering::Relaxed) => sys::signal::Signal::SIGINT as i32,
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

    /// Ends a subshell: runs its EXIT trap.
    pub(crate) async fn end_subshell(&mut self, params: &ExecutionParameters) {
        if self.traps().handles(TrapSignal::Exit) {
            let _ = self.invoke_trap_handler(TrapSignal::Exit, params).await;
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
            Ok(ExecutionResult::from(result.exit_code))
        })
    })
}
