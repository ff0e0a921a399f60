//! A request to a node from inside a container, where no other client is: `xtask` itself goes into an image of its own.

use crate::failure::Failure;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// Prints the status and the body that `address` answers to a GET of `path`.
pub(crate) fn answer(address: &str, path: &str) -> Result<(), Failure> {
    let reply = get(address, path).map_err(Failure::file(address))?;
    match split(&reply) {
        Some((status, body)) => {
            println!("{status} {body}");
            Ok(())
        }
        None => Err(Failure::Unexpected { command: format!("GET {path} of {address}"), printed: reply }),
    }
}

fn get(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}

/// The status and the body of a reply.
fn split(reply: &str) -> Option<(u16, &str)> {
    let (head, body) = reply.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.split(' ').next()?;
    Some((status.parse().ok()?, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_a_status_and_a_body() {
        assert_eq!(split("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nwaiting"), Some((503, "waiting")));
        assert_eq!(split("HTTP/1.1 200 OK\r\n\r\n"), Some((200, "")));
        assert_eq!(split("SSH-2.0-OpenSSH\r\n"), None);
    }
}
