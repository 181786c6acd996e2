//! Compiles the C shim against the headers of the interpreter being built for.
//!
//! `PyO3` says which interpreter that is; the interpreter says where its
//! headers are. Debug builds keep `pyconfig.h` apart, hence two directories.
//!
//! Where the thread state of that interpreter is not known, the shim is another
//! one, and functions run on greenlets. `VERDIGRIS_THREAD_STATE=unknown` has any
//! interpreter built for like that, which is how it is tested.
//!
//! Where no engine works there is no build: `pip install` then ends with a text that
//! names the cause, and no wheel comes about that could not be imported.

use std::process::Command;

use pyo3_build_config::{BuildFlag, InterpreterConfig, PythonImplementation};

/// The minor versions of `CPython` 3 that `switch.h` was written for.
const KNOWN: core::ops::RangeInclusive<u8> = 11..=15;

const SHIM: [&str; 9] = [
    "src/thread_state/shared.c",
    "src/thread_state/switch.c",
    "src/thread_state/carry.c",
    "src/thread_state/frames.c",
    "src/thread_state/instrumentation.c",
    "src/thread_state/tools.c",
    "src/thread_state/trace_coverage.c",
    "src/thread_state/profile_lsprof.c",
    "src/thread_state/profile_memray.c",
];

const PORTABLE_SHIM: [&str; 2] = ["src/thread_state/shared.c", "src/thread_state/portable.c"];

const VARIABLE: &str = "VERDIGRIS_THREAD_STATE";

fn is_known(major: u8, minor: u8) -> bool {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    match std::env::var(VARIABLE).as_deref() {
        Ok("unknown") => return false,
        Ok("") | Err(_) => {}
        Ok(other) => panic!("{VARIABLE} is '{other}', and must be 'unknown' or not be set"),
    }
    major == 3 && KNOWN.contains(&minor)
}

/// Why there can be no engine for this system and interpreter, and what to use
/// instead. `verdigris._interpreter` says the same when imported.
fn refusal(config: &InterpreterConfig) -> Option<String> {
    let oldest = KNOWN.start();
    let version = config.version();
    if std::env::var_os("CARGO_CFG_UNIX").is_none() {
        let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
        return Some(format!(
            "verdigris works on Linux and macOS: its stacks and its reactor are written for Unix, \
             and this is {system}. On Windows use WSL 2 or a container."
        ));
    }
    if config.implementation() != PythonImplementation::CPython {
        return Some(format!(
            "verdigris switches stacks inside CPython, and this interpreter is {}. Use CPython \
             3.{oldest} or newer.",
            config.implementation()
        ));
    }
    if version.major != 3 || version.minor < *oldest {
        return Some(format!(
            "verdigris needs CPython 3.{oldest} or newer, and this is {version}. Use a newer CPython."
        ));
    }
    if config.build_flags().0.contains(&BuildFlag::Py_GIL_DISABLED) {
        return Some(format!(
            "verdigris needs the GIL, and this CPython {version} is a free-threaded build. Use the \
             default build (python{version}, not python{version}t)."
        ));
    }
    None
}

fn main() {
    for file in SHIM.iter().chain(&PORTABLE_SHIM) {
        println!("cargo::rerun-if-changed={file}");
    }
    for header in ["switch.h", "tools.h", "wait.h"] {
        println!("cargo::rerun-if-changed=src/thread_state/{header}");
    }

    pyo3_build_config::use_pyo3_cfgs();
    let config = pyo3_build_config::get();
    if let Some(refusal) = refusal(config) {
        println!("cargo::error={refusal}");
        return;
    }
    let python = config.executable().unwrap_or_else(|| {
        panic!("no Python interpreter found; set PYO3_PYTHON to the one to build for")
    });
    let printed = Command::new(python)
        .args([
            "-c",
            "import sysconfig; print(sysconfig.get_path('include')); print(sysconfig.get_path('platinclude')); print(sysconfig.get_config_h_filename().rpartition('/')[0])",
        ])
        .output()
        .unwrap_or_else(|error| panic!("cannot run {python}: {error}"));
    assert!(
        printed.status.success(),
        "{python} cannot tell where its headers are: {}",
        String::from_utf8_lossy(&printed.stderr)
    );
    let mut shim = cc::Build::new();
    println!("cargo::rustc-check-cfg=cfg(known_thread_state)");
    if is_known(config.version().major, config.version().minor) {
        println!("cargo::rustc-cfg=known_thread_state");
        shim.files(SHIM);
    } else {
        shim.files(PORTABLE_SHIM);
    }
    shim.std("c11")
        .opt_level(2)
        .warnings(true)
        .extra_warnings(true);
    // CPython's own internal headers are not clean under -Wextra.
    shim.flag_if_supported("-Wno-unused-parameter");
    shim.flag_if_supported("-Wno-sign-compare");
    shim.flag_if_supported("-Wno-missing-field-initializers");
    shim.flag_if_supported("-Wno-cast-function-type");
    for directory in String::from_utf8_lossy(&printed.stdout).lines() {
        shim.include(directory);
    }
    shim.compile("verdigris_thread_state");
}
