//! tungstenite, a WebSocket library for blocking streams, over tokio's TCP: a server and its
//! clients in one thread.
//!
//! `cargo run --example websocket --features tokio`

use std::error::Error;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tungstenite::Message;
use verdigris_await::io::TokioIo;
use verdigris_await::{async_def, await_};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Answers each text with the same in capitals, until the client closes.
fn serve(stream: TcpStream) -> Outcome<()> {
    let mut socket = tungstenite::accept(TokioIo::new(stream)).map_err(|e| e.to_string())?;
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => socket.send(Message::text(text.to_uppercase()))?,
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Says something and returns the answer.
fn ask(address: &str, text: &str) -> Outcome<String> {
    let stream = TokioIo::new(await_(TcpStream::connect(address))?);
    let (mut socket, _) =
        tungstenite::client(format!("ws://{address}/"), stream).map_err(|e| e.to_string())?;
    socket.send(Message::text(text))?;
    let answer = socket.read()?.into_text()?.as_str().to_owned();
    socket.close(None)?;
    while socket.read().is_ok() {}
    Ok(answer)
}

/// Runs 20 clients and their connections at once.
pub fn run() -> Outcome<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let clients: Vec<_> = (0..20)
            .map(|n| {
                let address = address.clone();
                spawn_local(async_def(move || {
                    ask(&address, &format!("hello {n}")).map_err(|error| error.to_string())
                }))
            })
            .collect();
        let mut connections = Vec::new();
        for _ in &clients {
            let (stream, _) = listener.accept().await?;
            connections.push(spawn_local(async_def(|| {
                serve(stream).map_err(|error| error.to_string())
            })));
        }
        let mut answers = Vec::new();
        for client in clients {
            answers.push(client.await??);
        }
        for connection in connections {
            connection.await??;
        }
        Ok(answers)
    })
}

#[allow(dead_code)] // the tests call `run`
fn main() -> Outcome<()> {
    for answer in run()? {
        println!("{answer}");
    }
    Ok(())
}
