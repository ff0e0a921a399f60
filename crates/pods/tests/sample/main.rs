//! What runs in the pods of the tests: a small server on the address it is given. It is ready unless the file says `no`
//! that `READY_FILE` names, is alive until it is asked to be ill, and ends on SIGTERM, or not. At another address it says
//! back what it hears.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    println!("arguments: {}", arguments[1..].join(" "));
    println!("process: {}", std::process::id());
    println!("kubeconfig: {}", std::env::var("KUBECONFIG").unwrap_or_default());
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    if let Some(file) = value("--count-starts-in") {
        let starts = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(&file, starts + "started\n")?;
    }
    if let Some(code) = value("--exit") {
        return Ok(ExitCode::from(code.parse().unwrap_or(1)));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(value("--listen").unwrap_or_default()).await?;
    println!("listening on {}", listener.local_addr()?);
    let echo = match value("--echo") {
        Some(address) => Some(TcpListener::bind(address).await?),
        None => None,
    };
    let ready = std::env::var("READY_FILE").unwrap_or_default();
    let mut is_ill = false;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                // One that hangs up early has not asked anything.
                if let Ok(true) = answer(stream, &ready, is_ill).await {
                    is_ill = true;
                }
            }
            Some(accepted) = heard(echo.as_ref()) => {
                tokio::spawn(say_back(accepted?));
            }
            _ = terminate.recv() => {
                println!("asked to stop");
                if !arguments.iter().any(|argument| argument == "--ignore-sigterm") {
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    }
}

async fn heard(echo: Option<&TcpListener>) -> Option<io::Result<TcpStream>> {
    Some(echo?.accept().await.map(|(stream, _)| stream))
}

/// Also when the other side has said all.
async fn say_back(mut stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// Says whether the request was to be ill.
async fn answer(mut stream: TcpStream, ready: &str, is_ill: bool) -> io::Result<bool> {
    let mut request = [0; 4096];
    let length = stream.read(&mut request).await?;
    let request = String::from_utf8_lossy(&request[..length]);
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let is_ready = !std::fs::read_to_string(Path::new(ready)).is_ok_and(|text| text.trim() == "no");
    let is_good = match path.as_str() {
        "/livez" => !is_ill,
        "/readyz" => is_ready,
        "/ill" => true,
        _ => false,
    };
    let status = if is_good { "200 OK" } else { "503 Service Unavailable" };
    let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(reply.as_bytes()).await?;
    Ok(path == "/ill")
}
