//! Compiles the C shim against the headers of the interpreter being built for.
//!
//! `PyO3` says which interpreter that is; the interpreter says where its
//! headers are. Debug builds keep `pyconfig.h` apart, hence two directories.

use std::process::Command;

const SHIM: [&str; 4] = [
    "src/thread_state/switch.c",
    "src/thread_state/carry.c",
    "src/thread_state/frames.c",
    "src/thread_state/instrumentation.c",
];

fn main() {
    for file in SHIM {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-changed=src/thread_state/switch.h");

    pyo3_build_config::use_pyo3_cfgs();
    let config = pyo3_build_config::get();
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
    shim.files(SHIM)
        .std("c11")
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
