//! An answer before it is bytes on a connection.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kubelet::Errand;
use crate::watch::Watch;
use crate::yaml;

pub(crate) enum Reply {
    Json { code: u16, media_type: String, body: Value, warnings: Vec<String>, retry_after: Option<u64> },
    Text { code: u16, body: String },
    Watch(Box<Watch>),
}

/// What is done about a request.
pub(crate) enum Answer {
    Reply(Reply),
    /// A kubelet has the answer.
    Errand(Errand),
}

impl Reply {
    pub(crate) fn ok(body: Value) -> Self {
        Self::json(200, body)
    }

    pub(crate) fn json(code: u16, body: Value) -> Self {
        let media_type = "application/json".to_owned();
        Self::Json { code, media_type, body, warnings: Vec::new(), retry_after: None }
    }

    pub(crate) fn text(code: u16, body: &str) -> Self {
        Self::Text { code, body: body.to_owned() }
    }

    pub(crate) fn error(error: &ApiError) -> Self {
        if let Some(text) = error.plain_text() {
            return Self::text(error.code(), &text);
        }
        Self::Json {
            code: error.code(),
            media_type: "application/json".to_owned(),
            body: error.status(),
            warnings: Vec::new(),
            retry_after: error.retry_after(),
        }
    }

    pub(crate) fn warning(mut self, all: Vec<String>) -> Self {
        if let Self::Json { warnings, .. } = &mut self {
            *warnings = all;
        }
        self
    }

    /// In the form that an `Accept` header prefers.
    pub(crate) fn preferred(mut self, accept: &str) -> Self {
        if let Self::Json { media_type, .. } = &mut self
            && media_type == "application/json"
            && yaml::is_preferred(accept)
        {
            *media_type = yaml::MEDIA_TYPE.to_owned();
        }
        self
    }

    pub(crate) fn success(details: &Value) -> Self {
        Self::ok(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        }))
    }
}
