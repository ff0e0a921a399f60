//! What was asked and how it was answered, so that a test can say what a client does not do.

use std::collections::VecDeque;

use crate::request::{Method, Request};

/// Requests that are remembered; older ones are forgotten.
const MAX_REQUESTS: usize = 10_000;

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
            self.0.pop_front();
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
