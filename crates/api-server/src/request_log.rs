//! What was asked and how it was answered, so that a test can say what a client does not do.

use std::collections::VecDeque;

use crate::request::{Method, Request};

/// Requests that are remembered; older ones are forgotten, what was forbidden last of all.
const MAX_REQUESTS: usize = 10_000;
const FORBIDDEN: u16 = 403;

/// One request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredRequest {
    pub method: &'static str,
    pub path: String,
    /// As it came, still percent-encoded.
    pub query: String,
    pub user_agent: String,
    pub code: u16,
}

#[derive(Debug, Default)]
pub(crate) struct RequestLog(VecDeque<AnsweredRequest>);

impl RequestLog {
    pub(crate) fn record(&mut self, request: &Request, code: u16) {
        if self.0.len() == MAX_REQUESTS {
            // A test asks at its end what somebody may not do, who may have asked for it once, before everything else.
            let oldest = self.0.iter().position(|request| request.code != FORBIDDEN).unwrap_or(0);
            self.0.remove(oldest);
        }
        self.0.push_back(AnsweredRequest {
            method: match request.method {
                Method::Get => "GET",
                Method::Post => "POST",
                Method::Put => "PUT",
                Method::Patch => "PATCH",
                Method::Delete => "DELETE",
                Method::Other => "OTHER",
            },
            path: request.path.clone(),
            query: request.raw_query.clone(),
            user_agent: request.user_agent.clone(),
            code,
        });
    }

    pub(crate) fn all(&self) -> Vec<AnsweredRequest> {
        self.0.iter().cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Query;

    fn request(path: String) -> Request {
        Request {
            method: Method::Get,
            path,
            query: Query::parse(""),
            raw_query: String::new(),
            accept: String::new(),
            content_type: String::new(),
            user_agent: String::new(),
            authorization: None,
            impersonation: crate::impersonation::Impersonation::default(),
            upgrade: None,
            body: bytes::Bytes::new(),
        }
    }

    fn paths(log: &RequestLog) -> Vec<String> {
        log.all().into_iter().map(|request| request.path).collect()
    }

    #[test]
    fn what_was_forbidden_is_remembered_when_the_rest_is_forgotten() {
        let mut log = RequestLog::default();
        let forbidden = ["first", "second"];
        for path in forbidden {
            log.record(&request(path.to_owned()), FORBIDDEN);
            log.record(&request("between".to_owned()), 200);
        }
        for poll in 0..MAX_REQUESTS {
            log.record(&request(poll.to_string()), if poll % 2 == 0 { 200 } else { 404 });
        }
        let kept = paths(&log);
        assert_eq!(
            (kept.len(), &kept[..3]),
            (MAX_REQUESTS, &["first", "second", "2"].map(str::to_owned)[..])
        );
        assert_eq!(kept.last().unwrap(), "9999");
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered_of_the_forbidden_too() {
        let mut log = RequestLog::default();
        for number in 0..=MAX_REQUESTS {
            log.record(&request(number.to_string()), FORBIDDEN);
        }
        let kept = paths(&log);
        assert_eq!((kept.len(), kept[0].as_str()), (MAX_REQUESTS, "1"));
    }
}
