//! PostgreSQL's protocol in sync code, with the codec of the `postgres` crate, over tokio's TCP.
//!
//! `cargo run --example postgres --features tokio -- 127.0.0.1:5432`, where the server trusts the
//! user `postgres`.

use std::error::Error;
use std::io::{self, Read, Write};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, ErrorResponseBody, Message};
use postgres_protocol::message::frontend;
use tokio::net::TcpStream;
use verdigris_await::io::TokioIo;
use verdigris_await::{async_def, await_, join_all};

/// What a server said, column by column.
pub type Rows = Vec<Vec<Option<String>>>;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A connection, over anything that reads and writes.
struct Client<S> {
    stream: S,
    received: BytesMut,
}

impl<S: Read + Write> Client<S> {
    fn connect(stream: S, user: &str) -> io::Result<Self> {
        let mut client = Self {
            stream,
            received: BytesMut::new(),
        };
        let mut message = BytesMut::new();
        frontend::startup_message([("user", user)], &mut message)?;
        client.stream.write_all(&message)?;
        client.until_ready(|_| Ok(()))?;
        Ok(client)
    }

    fn query(&mut self, statement: &str) -> io::Result<Rows> {
        let mut message = BytesMut::new();
        frontend::query(statement, &mut message)?;
        self.stream.write_all(&message)?;
        let mut rows = Vec::new();
        self.until_ready(|row| {
            let columns = row.ranges().map(|range| {
                Ok(range.map(|range| String::from_utf8_lossy(&row.buffer()[range]).into_owned()))
            });
            rows.push(columns.collect()?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// Reads messages until the server waits for the next query.
    fn until_ready(
        &mut self,
        mut row: impl FnMut(DataRowBody) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut failed = None;
        loop {
            match self.receive()? {
                Message::ReadyForQuery(_) => break,
                Message::DataRow(body) => row(body)?,
                Message::ErrorResponse(body) => {
                    let error = io::Error::other(told(&body)?);
                    // In a query the server gets ready again; while it connects it hangs up.
                    if body.is_fatal()? {
                        return Err(error);
                    }
                    failed = Some(error);
                }
                _ => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn receive(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = Message::parse(&mut self.received)? {
                return Ok(message);
            }
            let mut part = [0; 4096];
            match self.stream.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.received.extend_from_slice(&part[..count]),
            }
        }
    }
}

trait Severity {
    fn is_fatal(&self) -> io::Result<bool>;
}

impl Severity for ErrorResponseBody {
    fn is_fatal(&self) -> io::Result<bool> {
        self.fields()
            .any(|field| Ok(field.type_() == b'S' && field.value_bytes() == b"FATAL"))
    }
}

/// The message of an error.
fn told(error: &ErrorResponseBody) -> io::Result<String> {
    let message = error.fields().find(|field| Ok(field.type_() == b'M'))?;
    Ok(message.map_or_else(String::new, |field| {
        String::from_utf8_lossy(field.value_bytes()).into_owned()
    }))
}

/// Three connections at once, in one task: two that query, and one that makes a mistake.
pub fn run(address: &str) -> Outcome<Vec<Result<Rows, String>>> {
    let address = address.to_owned();
    let asks = move || {
        let statements = [
            "SELECT n, repeat('x', n) FROM generate_series(0, 2) AS n",
            "SELECT pg_sleep(0.01)::text, NULL",
            "SELECT nonsense",
        ];
        join_all(statements.map(|statement| {
            let address = &address;
            move || {
                let stream = TokioIo::new(await_(TcpStream::connect(address))?);
                Client::connect(stream, "postgres")?.query(statement)
            }
        }))
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let answers = { runtime }.enable_all().build()?.block_on(async_def(asks));
    Ok(answers
        .into_iter()
        .map(|answer| answer.map_err(|error| error.to_string()))
        .collect())
}

#[allow(dead_code)] // the tests call `run`
fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    for answer in run(address.as_deref().unwrap_or("127.0.0.1:5432"))? {
        println!("{answer:?}");
    }
    Ok(())
}
