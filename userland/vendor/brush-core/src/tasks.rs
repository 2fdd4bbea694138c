//! Shell code that runs beside the main shell: in a pipeline or in the background.
//!
//! Such code runs on a thread of its own (from tokio's pool for blocking work), because its
//! reads and writes block: the commands at the two ends of a pipe must both make progress.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

impl<SE: extensions::ShellExtensions> Shell<SE> {
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

    /// A copy of this shell for a subshell: with everything but the EXIT trap, which is the
    /// parent's to run.
    pub(crate) fn subshell(&self) -> Self {
        let mut subshell = self.clone();
        subshell.traps_mut().remove_handlers(TrapSignal::Exit);
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
