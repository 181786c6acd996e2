//! quick-xml's sync reader over a document that arrives in parts, and its events as a stream.
//!
//! `cargo run --example xml --features futures-io,stream,tokio`

use std::error::Error;
use std::io::{BufRead, BufReader};

use futures::StreamExt;
use quick_xml::Reader;
use quick_xml::events::Event;
use tokio::io::AsyncWriteExt;
use verdigris_await::io::TokioIo;
use verdigris_await::stream::{Yielder, generate};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A feed's entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number among the entries.
    pub number: usize,
    /// The text of its title.
    pub title: String,
}

/// Parses a feed, a recursive function for each level, and yields its entries as they come.
fn feed(document: impl BufRead, entries: &Yielder<Entry>) -> Result<(), quick_xml::Error> {
    let mut reader = Reader::from_reader(document);
    let mut buffer = Vec::new();
    let mut number = 0;
    loop {
        match reader.read_event_into(&mut buffer)? {
            Event::Start(tag) if tag.name().as_ref() == b"entry" => {
                number += 1;
                let title = entry(&mut reader)?;
                entries.emit(Entry { number, title });
            }
            Event::Eof => return Ok(()),
            _ => {}
        }
        buffer.clear();
    }
}

/// Parses an entry up to its end, and returns its title.
fn entry(reader: &mut Reader<impl BufRead>) -> Result<String, quick_xml::Error> {
    let mut title = String::new();
    let mut buffer = Vec::new();
    let mut in_title = false;
    loop {
        match reader.read_event_into(&mut buffer)? {
            Event::Start(tag) => in_title = tag.name().as_ref() == b"title",
            Event::Text(text) if in_title => title.push_str(&text.unescape()?),
            Event::End(tag) if tag.name().as_ref() == b"entry" => return Ok(title),
            Event::End(_) => in_title = false,
            _ => {}
        }
        buffer.clear();
    }
}

/// Sends a feed in parts of 7 bytes, and collects the entries on the other side.
pub fn run() -> Outcome<Vec<Entry>> {
    let (near, mut far) = tokio::io::duplex(16);
    let sends = async move {
        let entries =
            (1..=3).map(|n| format!("<entry>\n <title>No. {n} &amp; more</title></entry>"));
        let document = format!("<feed>{}</feed>", entries.collect::<String>());
        for part in document.as_bytes().chunks(7) {
            far.write_all(part).await.expect("the reader is there");
            tokio::task::yield_now().await;
        }
    };
    let entries = generate(move |to| {
        feed(BufReader::new(TokioIo::new(near)), to).expect("the document is well-formed");
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (entries, ()) =
        runtime.block_on(async { tokio::join!(entries.collect::<Vec<_>>(), sends) });
    Ok(entries)
}

#[allow(dead_code)] // the tests call `run`
fn main() -> Outcome<()> {
    for Entry { number, title } in run()? {
        println!("{number}: {title}");
    }
    Ok(())
}
