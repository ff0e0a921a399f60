//! Reasons for what the gRPC framework refuses by itself, before a call reaches its service: a message that cannot be read, a
//! method that is not there, a deadline that has passed. A call that is answered pays for one look at the headers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::service::Routes;

use crate::failure::Failure;

/// The services, whose every error has `google.rpc` details.
#[derive(Debug, Clone)]
pub(crate) struct Explain(pub(crate) Routes);

type Answer = Result<Response<Body>, Infallible>;

impl Service<Request<Body>> for Explain {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Explained;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, request: Request<Body>) -> Explained {
        let deadline = patience(request.headers()).map(|patience| Deadline::At(Instant::now() + patience));
        Explained { answer: self.0.call(request), deadline }
    }
}

/// An answer to come.
#[derive(Debug)]
pub(crate) struct Explained {
    answer: <Routes as Service<Request<Body>>>::Future,
    deadline: Option<Deadline>,
}

#[derive(Debug)]
enum Deadline {
    /// Not begun: most calls are answered without waiting, and need no timer.
    At(Instant),
    Running(Pin<Box<Sleep>>),
}

impl Future for Explained {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(context) {
            return Poll::Ready(answer.map(explained));
        }
        if let Some(Deadline::At(deadline)) = self.deadline {
            self.deadline = Some(Deadline::Running(Box::pin(sleep_until(deadline))));
        }
        let Some(Deadline::Running(sleep)) = &mut self.deadline else { return Poll::Pending };
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Ok(Status::from(Failure::TimedOut).into_http()))
    }
}

/// Details for an answer that is nothing but a status, if it is an error without any.
fn explained(mut answer: Response<Body>) -> Response<Body> {
    let headers = answer.headers();
    if !headers.contains_key(Status::GRPC_STATUS) || headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return answer;
    }
    if let Some(status) = Status::from_header_map(headers)
        && status.code() != tonic::Code::Ok
    {
        let explained = Status::from(Failure::from(&status));
        // What was a header before is one again.
        if explained.add_header(answer.headers_mut()).is_err() {
            tracing::error!(%status, "the status cannot be written as headers");
        }
    }
    answer
}

/// How long the caller waits. The framework ends a call at that time with a bare status; this ends it just before.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // The protocol's bound, which also rules out an overflow.
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    let whole = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(whole.saturating_sub(TIMER_TICK))
}

/// What timers are rounded to.
const TIMER_TICK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_read_as_the_protocol_writes_it() {
        let check = |text: &str, expected: Option<Duration>| {
            let headers = HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]);
            assert_eq!(patience(&headers), expected.map(|whole| whole - TIMER_TICK), "{text}");
        };
        check("2H", Some(Duration::from_secs(7200)));
        check("3M", Some(Duration::from_secs(180)));
        check("99999999S", Some(Duration::from_secs(99_999_999)));
        check("20m", Some(Duration::from_millis(20)));
        check("5000u", Some(Duration::from_millis(5)));
        check("7000000n", Some(Duration::from_millis(7)));
        for wrong in ["", "m", "1", "1x", "100000000S", "-1S", "1ü"] {
            check(wrong, None);
        }
        assert_eq!(patience(&HeaderMap::new()), None);
    }
}
