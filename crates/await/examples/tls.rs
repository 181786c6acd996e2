//! rustls by its own `StreamOwned`, which wants a blocking stream, over tokio's TCP. Certificates
//! are made on the spot.
//!
//! `cargo run --example tls --features tokio`

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tokio::net::{TcpListener, TcpStream};
use verdigris_await::io::TokioIo;
use verdigris_await::{async_def, await_, join};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A configuration for each side, which trust each other.
fn configurations() -> Outcome<(Arc<ServerConfig>, Arc<ClientConfig>)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.key_pair.serialize_der())?;
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((Arc::new(server), Arc::new(client)))
}

/// Greets who tells its name, and says goodbye to TLS properly.
fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> Outcome<()> {
    let connection = ServerConnection::new(config)?;
    let mut stream = rustls::StreamOwned::new(connection, TokioIo::new(stream));
    let mut name = String::new();
    BufReader::new(&mut stream).read_line(&mut name)?;
    write!(stream, "hello {name}")?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

fn ask(stream: TcpStream, config: Arc<ClientConfig>) -> Outcome<String> {
    let connection = ClientConnection::new(config, ServerName::try_from("localhost")?)?;
    let mut stream = rustls::StreamOwned::new(connection, TokioIo::new(stream));
    stream.write_all(b"world\n")?;
    Ok(std::io::read_to_string(stream)?)
}

/// Runs a server and a client side by side in one task.
pub fn run() -> Outcome<String> {
    let talk = || {
        let (server, client) = configurations()?;
        let listener = await_(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let (served, answer) = join(
            || serve(await_(listener.accept())?.0, server),
            || ask(await_(TcpStream::connect(address))?, client),
        );
        served?;
        answer
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.enable_all().build()?.block_on(async_def(talk))
}

#[allow(dead_code)] // the tests call `run`
fn main() -> Outcome<()> {
    print!("{}", run()?);
    Ok(())
}
