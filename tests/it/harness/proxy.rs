//! A proxy, for CONNECT, plain http and SOCKS5, that notes what was asked of it and asks one server for everything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::harness::http;
use crate::harness::network;

pub(crate) struct Proxy {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts one that takes every connection to `server`, until the test's process ends.
    pub(crate) fn start(server: &str) -> Proxy {
        network::enter_own();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, server) = (Arc::clone(&asked), server.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, server) = (Arc::clone(&log), server.clone());
                std::thread::spawn(move || {
                    // Either side may go away in the middle.
                    drop(serve(stream.unwrap(), &server, &log));
                });
            }
        });
        Proxy { address, asked }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the hosts with their ports that it was asked for, oldest first.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, server: &str, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut first = [0];
    client.peek(&mut first)?;
    if first == [5] {
        let target = socks(&mut client)?;
        log.lock().unwrap().push(target);
        return relay(client, TcpStream::connect(server)?);
    }
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let headers = http::read_headers(&mut reader);
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    if method == "CONNECT" {
        log.lock().unwrap().push(target.to_owned());
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        return relay(client, TcpStream::connect(server)?);
    }
    let bare = target.strip_prefix("http://").unwrap_or_default();
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    log.lock().unwrap().push(host.to_owned());
    let mut upstream = TcpStream::connect(server)?;
    write!(
        upstream,
        "{method} /{path} HTTP/1.1\r\nConnection: close\r\n"
    )?;
    for (name, value) in &headers {
        if !name.to_ascii_lowercase().starts_with("proxy-") {
            write!(upstream, "{name}: {value}\r\n")?;
        }
    }
    write!(upstream, "\r\n")?;
    std::io::copy(&mut upstream, &mut client)?;
    Ok(())
}

/// Answers as a SOCKS5 server does (RFC 1928, 1929) and returns the name and port that were asked for.
fn socks(client: &mut TcpStream) -> std::io::Result<String> {
    let mut read = |length: usize| -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let count = read(2)?[1];
    let wants_password = read(count.into())?.contains(&2);
    client.write_all(&[5, if wants_password { 2 } else { 0 }])?;
    let mut read = |length: usize| -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    if wants_password {
        let length = read(2)?[1];
        read(length.into())?;
        let length = read(1)?[0];
        read(length.into())?;
        client.write_all(&[1, 0])?;
    }
    let mut head = [0; 5];
    client.read_exact(&mut head)?;
    assert_eq!(head[3], 3, "a name, looked up by the proxy");
    let mut rest = vec![0; usize::from(head[4]) + 2];
    client.read_exact(&mut rest)?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let (name, port) = rest.split_at(rest.len() - 2);
    let port = u16::from_be_bytes([port[0], port[1]]);
    Ok(format!("{}:{port}", String::from_utf8_lossy(name)))
}

fn relay(client: TcpStream, server: TcpStream) -> std::io::Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || {
        drop(std::io::copy(&mut from_client, &mut to_server));
        to_server.shutdown(std::net::Shutdown::Write)
    });
    let (mut from_server, mut to_client) = (server, client);
    std::io::copy(&mut from_server, &mut to_client)?;
    to_client.shutdown(std::net::Shutdown::Both)?;
    drop(up.join());
    Ok(())
}
