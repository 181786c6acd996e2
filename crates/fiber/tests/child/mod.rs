//! Runs a test's body in a process of its own: for what may crash, for limits that can not be
//! lifted again, and for memory that other tests would disturb.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

const MARK: &str = "VERDIGRIS_FIBER_TEST_CHILD";

/// Starts this test again in a child process and returns how that ended, or runs `body` and
/// returns `None` if this is the child.
pub fn run(test: &str, body: impl FnOnce()) -> Option<ExitStatus> {
    if std::env::var_os(MARK).is_some() {
        body();
        return None;
    }
    let this = std::env::current_exe().expect("the path of this test program");
    let output = Command::new(this)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("the test program starts again");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let ran = String::from_utf8_lossy(&output.stdout).contains("running 1 test");
    assert!(ran, "no test is named {test}");
    Some(output.status)
}

/// As [`run`], and the child must succeed.
#[allow(dead_code, reason = "each test program uses its part of this file")]
pub fn succeeds(test: &str, body: impl FnOnce()) {
    if let Some(status) = run(test, body) {
        assert!(status.success(), "{test}: {status}");
    }
}

/// As [`run`], and the child must end by `signal`.
#[allow(dead_code, reason = "each test program uses its part of this file")]
pub fn dies_of(test: &str, signal: i32, body: impl FnOnce()) {
    if let Some(status) = run(test, body) {
        assert_eq!(status.signal(), Some(signal), "{test}: {status}");
    }
}
