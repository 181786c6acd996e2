//! The examples, run.
#![cfg(all(feature = "futures-io", feature = "stream", feature = "tokio"))]

#[path = "../examples/postgres.rs"]
mod postgres;
#[path = "../examples/tls.rs"]
mod tls;
#[path = "../examples/websocket.rs"]
mod websocket;
#[path = "../examples/xml.rs"]
mod xml;

#[test]
fn tungstenite_over_tokio_tcp() {
    let answers = websocket::run().unwrap();
    let expected: Vec<_> = (0..20).map(|n| format!("HELLO {n}")).collect();
    assert_eq!(answers, expected);
}

#[test]
fn rustls_over_tokio_tcp() {
    assert_eq!(tls::run().unwrap(), "hello world\n");
}

#[test]
fn quick_xml_as_a_stream() {
    let entries = xml::run().unwrap();
    let expected: Vec<_> = (1..=3)
        .map(|number| xml::Entry {
            number,
            title: format!("No. {number} & more"),
        })
        .collect();
    assert_eq!(entries, expected);
}

#[test]
fn postgres_protocol_over_tokio_tcp() {
    let Some(server) = server::Postgres::start() else {
        return println!("skipped: postgresql is not installed");
    };
    let answers = postgres::run(&server.address).unwrap();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        answers[0],
        Ok(vec![
            vec![text("0"), text("")],
            vec![text("1"), text("x")],
            vec![text("2"), text("xx")],
        ])
    );
    assert_eq!(answers[1], Ok(vec![vec![text(""), None]]));
    assert_eq!(
        answers[2],
        Err("column \"nonsense\" does not exist".to_owned())
    );
}

/// A PostgreSQL of the test's own.
mod server {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    pub struct Postgres {
        pub address: String,
        directory: PathBuf,
        process: Child,
    }

    impl Postgres {
        /// None where it is not installed.
        pub fn start() -> Option<Self> {
            let programs = programs()?;
            let directory = std::env::temp_dir().join(format!("verdigris-{}", std::process::id()));
            std::fs::create_dir(&directory).unwrap();
            let user = unprivileged();
            if let Some((user, group)) = user {
                std::os::unix::fs::chown(&directory, Some(user), Some(group)).unwrap();
            }
            let command = |name: &str| {
                let mut command = Command::new(programs.join(name));
                command.current_dir(&directory).stdout(Stdio::null());
                command.stderr(Stdio::null());
                if let Some((user, group)) = user {
                    command.uid(user).gid(group);
                }
                command
            };
            let data = directory.join("data");
            let made = command("initdb")
                .args(["--no-sync", "--auth=trust", "--username=postgres"])
                .args(["--encoding=UTF8", "--locale=C", "--pgdata"])
                .arg(&data)
                .status()
                .unwrap();
            assert!(made.success(), "initdb failed");
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let process = command("postgres")
                .arg("-D")
                .arg(&data)
                .args(["--listen_addresses=127.0.0.1", "--unix_socket_directories="])
                .args(["--fsync=off".to_owned(), format!("--port={port}")])
                .spawn()
                .unwrap();
            let mut server = Self {
                address: format!("127.0.0.1:{port}"),
                directory,
                process,
            };
            server.wait_until_ready(&programs, port);
            Some(server)
        }

        fn wait_until_ready(&mut self, programs: &std::path::Path, port: u16) {
            for _ in 0..600 {
                assert!(self.process.try_wait().unwrap().is_none(), "it ended early");
                let ready = TcpStream::connect(&self.address).is_ok()
                    && Command::new(programs.join("pg_isready"))
                        .args(["--quiet", "--host=127.0.0.1", &format!("--port={port}")])
                        .status()
                        .unwrap()
                        .success();
                if ready {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            panic!("PostgreSQL was not ready in 30 s");
        }
    }

    impl Drop for Postgres {
        fn drop(&mut self) {
            let process = i32::try_from(self.process.id()).expect("an id fits");
            // SAFETY: it has no preconditions. The process is our child and was not waited for.
            unsafe { libc::kill(process, libc::SIGINT) };
            let _ = self.process.wait();
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    fn programs() -> Option<PathBuf> {
        let on_path = std::env::var_os("PATH")?;
        let on_path = std::env::split_paths(&on_path).collect::<Vec<_>>();
        let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter();
        let mut debian: Vec<_> = debian
            .flatten()
            .filter_map(|version| Some(version.ok()?.path().join("bin")))
            .collect();
        debian.sort();
        let mut places = debian.into_iter().rev().chain(on_path);
        places.find(|place| place.join("initdb").exists() && place.join("postgres").exists())
    }

    /// The user and group to run it as: it refuses to run as root.
    fn unprivileged() -> Option<(u32, u32)> {
        // SAFETY: it has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            return None;
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap();
        let postgres = users.lines().find(|line| line.starts_with("postgres:"));
        let fields: Vec<_> = postgres?.split(':').collect();
        Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
    }
}
