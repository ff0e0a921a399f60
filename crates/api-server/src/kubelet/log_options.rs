//! `PodLogOptions`: read from a query, checked, and written down for the kubelet.

use serde_json::json;

use crate::error::{ApiError, Subject};
use crate::field_error::FieldError;
use crate::request::Query;
use crate::time;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    container: String,
    follow: bool,
    previous: bool,
    timestamps: bool,
    since_seconds: Option<i64>,
    /// Seconds since 1970.
    since_time: Option<i64>,
    tail_lines: Option<i64>,
    limit_bytes: Option<i64>,
}

impl LogOptions {
    pub(crate) fn parse(query: &Query, pod: &str) -> Result<Self, ApiError> {
        // As apimachinery reads them from a query.
        let is_set = |name| !matches!(query.text(name).to_lowercase().as_str(), "" | "0" | "false");
        let options = Self {
            container: query.text("container").to_owned(),
            follow: is_set("follow"),
            previous: is_set("previous"),
            timestamps: is_set("timestamps"),
            since_seconds: number(query, "sinceSeconds")?,
            since_time: moment(query, "sinceTime")?,
            tail_lines: number(query, "tailLines")?,
            limit_bytes: number(query, "limitBytes")?,
        };
        let errors = options.errors();
        if errors.is_empty() {
            return Ok(options);
        }
        Err(ApiError::Invalid { subject: Subject::new(("", ""), "PodLogOptions", pod), errors })
    }

    fn errors(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut at_least = |least: i64, field: &str, value: Option<i64>, detail: &str| {
            if let Some(value) = value.filter(|value| *value < least) {
                errors.push(FieldError::invalid(field, &json!(value), detail));
            }
        };
        at_least(0, "tailLines", self.tail_lines, "must be greater than or equal to 0");
        at_least(1, "limitBytes", self.limit_bytes, "must be greater than 0");
        if self.since_time.is_none() {
            at_least(1, "sinceSeconds", self.since_seconds, "must be greater than 0");
        } else if self.since_seconds.is_some() {
            let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            errors.push(FieldError::forbidden("", detail));
        }
        errors
    }

    /// Empty if the client leaves it open.
    pub(crate) fn container(&self) -> &str {
        &self.container
    }

    pub(crate) fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, is_set) in
            [("follow", self.follow), ("previous", self.previous), ("timestamps", self.timestamps)]
        {
            if is_set {
                query.append_pair(name, "true");
            }
        }
        let since = self.since_time.map(|seconds| time::format(u64::try_from(seconds).unwrap_or(0)));
        let number = |number: Option<i64>| number.map(|number| number.to_string());
        for (name, value) in [
            ("sinceSeconds", number(self.since_seconds)),
            ("sinceTime", since),
            ("tailLines", number(self.tail_lines)),
            ("limitBytes", number(self.limit_bytes)),
        ] {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
        query.finish()
    }
}

fn number(query: &Query, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let malformed = |_| ApiError::BadRequest(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    text.parse().map(Some).map_err(malformed)
}

fn moment(query: &Query, name: &str) -> Result<Option<i64>, ApiError> {
    let text = query.text(name);
    if matches!(text, "" | "null") {
        return Ok(None);
    }
    let malformed = || {
        let layout = "2006-01-02T15:04:05Z07:00";
        ApiError::BadRequest(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?}"))
    };
    time::parse(text).map(Some).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: Result<&str, &str>) {
        let found = LogOptions::parse(&Query::parse(query), "p").map(|options| options.query());
        let found = found.map_err(|error| error.message());
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn what_kubectl_asks_for_goes_on_to_the_kubelet() {
        check(
            "container=a&follow=true&timestamps=true&tailLines=0",
            Ok("follow=true&timestamps=true&tailLines=0"),
        );
        check("previous=true&sinceSeconds=60&limitBytes=9", Ok("previous=true&sinceSeconds=60&limitBytes=9"));
        check("sinceTime=2024-01-02T03%3A04%3A05%2B01%3A00", Ok("sinceTime=2024-01-02T02%3A04%3A05Z"));
        check("follow=false&previous=0&timestamps=", Ok(""));
    }

    #[test]
    fn wrong_values_are_refused() {
        check("tailLines=x", Err("strconv.ParseInt: parsing \"x\": invalid syntax"));
        check(
            "limitBytes=0",
            Err("PodLogOptions \"p\" is invalid: limitBytes: Invalid value: 0: must be greater than 0"),
        );
        check(
            "sinceSeconds=0",
            Err("PodLogOptions \"p\" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0"),
        );
        let both = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        check(
            "sinceSeconds=1&sinceTime=2024-01-02T03:04:05Z",
            Err(&format!("PodLogOptions \"p\" is invalid: : Forbidden: {both}")),
        );
        let time = "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\"";
        check("sinceTime=x", Err(time));
    }
}
